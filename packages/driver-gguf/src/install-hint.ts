/** How to get the optional package, without the graphics binaries of ten times its size. */
export const INSTALL_HINT =
  "Install it: npm i --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1 (or the package of your platform).";
