package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/internal/testenv"
)

// TestDiskConvertSharesBlocks copies a raw disk on a file system that has not
// the room for a second one: the two share their blocks, or there is none.
func TestDiskConvertSharesBlocks(t *testing.T) {
	dir := testenv.SharingFolder(t, 200<<20)
	free, err := freespace.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	size := free * 6 / 10 &^ (1<<20 - 1)
	raw := path("disk.raw")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("a block "), int(size/8)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{raw, path("copy.raw")},
		{raw, path("copy.vmdk"), "--subformat", "monolithicFlat"},
	} {
		out, _ := ovation(t, nil, 0, append([]string{"disk", "convert", "-q", "--json"}, args...)...)
		var c diskConversion
		if err := json.Unmarshal([]byte(out), &c); err != nil {
			t.Fatal(err)
		}
		if c.Cloned != size || c.Written != 0 {
			t.Errorf("%s: %+v, and the disk has %d bytes", args[1], c, size)
		}
		ovation(t, nil, 0, "disk", "compare", "-q", raw, args[1])
	}
	// Another file system shares nothing.
	other := filepath.Join(t.TempDir(), "copy.raw")
	ovation(t, nil, 0, "disk", "convert", "-q", raw, other)
	ovation(t, nil, 0, "disk", "compare", "-q", raw, other)
	// What has to be written does not fit; that is said before, and nothing is
	// left of an attempt.
	_, stderr := ovation(t, nil, 1, "disk", "convert", "-q", raw, path("x.qcow2"))
	if !strings.Contains(stderr, "not enough space") || strings.Count(stderr, "MiB") != 2 {
		t.Errorf("no room: %q", stderr)
	}
	_, stderr = ovation(t, nil, 1, "disk", "convert", "-q", "--no-space-check", raw, path("x.qcow2"))
	if !strings.Contains(stderr, "no space left") {
		t.Errorf("tried without room: %q", stderr)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 { // the raw disk, its copy, a descriptor and an extent
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
