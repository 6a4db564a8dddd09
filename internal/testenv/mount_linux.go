package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SharingFolder gives a folder on a file system of its own in which files can
// share their blocks: Btrfs, in a file of so many bytes. Only root can mount
// one, and not in every container: elsewhere the test is skipped.
func SharingFolder(t testing.TB, size int64) string {
	t.Helper()
	mkfs := NeedTool(t, "mkfs.btrfs")
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), mkfs, "-q", "-m", "single", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "btrfs", "-o", "loop", image, at).CombinedOutput(); err != nil {
		t.Skipf("a file system cannot be mounted here: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return at
}
