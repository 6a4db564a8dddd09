package qcow2

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/internal/testenv"
)

func savedStates(t *testing.T, dir string) (int, error) {
	t.Helper()
	img, err := open(t, dir, "x.qcow2", disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	return img.(disk.StateHolder).SavedStates()
}

// TestSavedStates has QEMU take snapshots of a disk, and of a machine that runs.
func TestSavedStates(t *testing.T) {
	qemu := testenv.NeedTool(t, "qemu-system-x86_64")
	dir := t.TempDir()
	disktest.QEMUImg(t, dir, "create", "-f", "qcow2", "x.qcow2", "1M")
	want := func(want int) {
		t.Helper()
		if n, err := savedStates(t, dir); n != want || err != nil {
			t.Errorf("%d snapshots of running machines, and %v, want %d", n, err, want)
		}
	}
	want(0)
	disktest.QEMUImg(t, dir, "snapshot", "-c", "off", "x.qcow2")
	want(0)
	for _, name := range []string{"first", "a name of another length"} {
		cmd := exec.CommandContext(t.Context(), qemu, "-accel", "tcg", "-m", "4", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio",
			"-drive", "file=x.qcow2,format=qcow2,if=ide")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader("savevm \""+name+"\"\nquit\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	want(2)
	disktest.QEMUImg(t, dir, "snapshot", "-d", "first", "x.qcow2")
	want(1)
}

// TestSnapshotsThatAreNone has tables that lead nowhere: they end.
func TestSnapshotsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	disktest.QEMUImg(t, dir, "create", "-f", "qcow2", "x.qcow2", "1M")
	path := filepath.Join(dir, "x.qcow2")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"too many":  func(b []byte) []byte { binary.BigEndian.PutUint32(b[60:], 1<<31); return b },
		"outside":   func(b []byte) []byte { binary.BigEndian.PutUint64(b[64:], 1<<62); return b },
		"before it": func(b []byte) []byte { binary.BigEndian.PutUint64(b[64:], 1<<63); return b },
		"cut off":   func(b []byte) []byte { binary.BigEndian.PutUint64(b[64:], uint64(len(b)-8)); return b },
		"much of it": func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[64:], uint64(len(b)))
			return append(b, entry(1<<32-1)...)
		},
		"one too many": func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[64:], uint64(len(b)))
			return append(b, entry(0)...)
		},
	} {
		b := append([]byte(nil), good...)
		binary.BigEndian.PutUint32(b[60:], 2)
		if err := os.WriteFile(path, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := savedStates(t, dir); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// entry is one of the table, with so much extra data.
func entry(extra uint32) []byte {
	b := make([]byte, snapshotHead)
	binary.BigEndian.PutUint32(b[36:], extra)
	return b
}
