// Verify checks an Assay log directory with the code of Go's checksum database, which shares nothing with ours but
// the specifications: golang.org/x/mod/sumdb/note and golang.org/x/mod/sumdb/tlog.
//
// Usage: verify LOGDIR VKEY
//
// It opens LOGDIR/checkpoint with VKEY, reads hashes only through tlog.TileHashReader (which checks every tile against
// the signed root), proves several records of LOGDIR's entry bundles included, and proves the tree of
// LOGDIR/checkpoint.older a prefix of the newest one. It prints ok, or the first failure and exits 1.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: verify LOGDIR VKEY")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func verify(dir, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	newest, err := openTree(filepath.Join(dir, "checkpoint"), verifier)
	if err != nil {
		return err
	}
	older, err := openTree(filepath.Join(dir, "checkpoint.older"), verifier)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(newest, &tiles{dir: dir, size: newest.N})
	root, err := tlog.TreeHash(newest.N, hashes)
	if err != nil {
		return err
	}
	if root != newest.Hash {
		return errors.New("the tiles have another root than the checkpoint")
	}
	for _, index := range records(newest.N) {
		entry, err := readEntry(dir, index, newest.N)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(newest.N, index, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, newest.N, newest.Hash, index, tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
	}
	proof, err := tlog.ProveTree(newest.N, older.N, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, newest.N, newest.Hash, older.N, older.Hash); err != nil {
		return fmt.Errorf("tree of %d in tree of %d: %w", older.N, newest.N, err)
	}
	return nil
}

// records spreads over the tree, with both sides of a tile's border and both ends.
func records(size int64) []int64 {
	var list []int64
	for _, index := range []int64{0, 1, 255, 256, size / 3, size / 2, 65535, 65536, size - 257, size - 2, size - 1} {
		if index >= 0 && index < size {
			list = append(list, index)
		}
	}
	return list
}

// openTree checks a signed checkpoint. Its body is origin, size and root; ParseTree expects a fixed first line where
// a C2SP checkpoint has the origin, so that line alone is exchanged after the signature was checked.
func openTree(path string, verifier note.Verifier) (tlog.Tree, error) {
	message, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	origin, rest, found := strings.Cut(opened.Text, "\n")
	if !found || origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("the origin %q is not the key's name", origin)
	}
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

// tiles reads tiles of height 8 from our directory, whose paths lack the height.
type tiles struct {
	dir  string
	size int64
}

func (t *tiles) Height() int { return 8 }

func (t *tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(list))
	for i, tile := range list {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		bytes, err := os.ReadFile(filepath.Join(t.dir, path))
		if err != nil && tile.W < 256 {
			// A partial tile may have been replaced by the full one, which begins with it.
			full := tile
			full.W = 256
			path = strings.Replace(full.Path(), "tile/8/", "tile/", 1)
			bytes, err = os.ReadFile(filepath.Join(t.dir, path))
			if err == nil && len(bytes) >= tile.W*tlog.HashSize {
				bytes = bytes[:tile.W*tlog.HashSize]
			}
		}
		if err != nil {
			return nil, err
		}
		data[i] = bytes
	}
	return data, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// readEntry takes one entry out of its bundle of 16-bit length-prefixed entries.
func readEntry(dir string, index, size int64) ([]byte, error) {
	bundle := index / 256
	width := size - bundle*256
	if width > 256 {
		width = 256
	}
	tile := tlog.Tile{H: 8, L: -1, N: bundle, W: int(width)}
	path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	bytes, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		return nil, err
	}
	for i := bundle * 256; ; i++ {
		if len(bytes) < 2 {
			return nil, fmt.Errorf("bundle %s ends before entry %d", path, index)
		}
		length := int(binary.BigEndian.Uint16(bytes))
		if len(bytes) < 2+length {
			return nil, fmt.Errorf("entry %d of bundle %s is cut off", i, path)
		}
		if i == index {
			return bytes[2 : 2+length], nil
		}
		bytes = bytes[2+length:]
	}
}
