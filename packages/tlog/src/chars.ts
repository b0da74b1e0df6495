/** Whether `text` has a character below U+0020 that is not in `allowed`, which signed notes and policies refuse. */
export function hasControlCharacter(text: string, allowed: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) < 0x20 && !allowed.includes(text.charAt(i))) return true;
  }
  return false;
}
