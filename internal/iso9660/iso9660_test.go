package iso9660

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
)

var made = time.Date(2024, 2, 29, 12, 30, 45, 0, time.UTC)

// TestOthersRead has xorriso read what was written: the label and the files,
// by the names of Joliet and by those of plain ISO 9660.
func TestOthersRead(t *testing.T) {
	xorriso := testenv.NeedTool(t, "xorriso")
	files := []File{
		{"ovf-env.xml", []byte("<Environment/>\n")},
		{"empty", nil},
		{"Grüße, wide name.txt", bytes.Repeat([]byte("0123456789abcdef"), 300)},
	}
	var image bytes.Buffer
	if err := Write(&image, "OVF ENV", made, files...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "cd.iso")
	if err := os.WriteFile(path, image.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(xorriso, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // else it can't say all names
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("xorriso %v: %v\n%s", args, err, out)
		}
		if text := string(out); strings.Contains(text, "WARNING") || strings.Contains(text, "FAILURE") || strings.Contains(text, "SORRY") {
			t.Errorf("xorriso %v complains:\n%s", args, text)
		}
		return string(out)
	}
	if out := run("-indev", path, "-pvd_info"); !strings.Contains(out, "Volume Id    : OVF ENV") && !strings.Contains(out, "OVF ENV") {
		t.Errorf("the label is not there:\n%s", out)
	}
	// Its default prefers the names of Joliet to plain ones.
	to := filepath.Join(dir, "joliet")
	run("-indev", path, "-osirrox", "on", "-extract", "/", to)
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(to, f.Name))
		if err != nil {
			entries, _ := os.ReadDir(to)
			t.Fatalf("%v; there are %v", err, entries)
		}
		if !bytes.Equal(got, f.Data) {
			t.Errorf("%s differs", f.Name)
		}
	}
	out := run("-read_fs", "nojoliet", "-indev", path, "-find", "/", "-type", "f")
	for _, want := range []string{"ovf_env.xml", "empty", "gr__e__w.txt"} {
		if !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("ISO 9660's own names lack %s:\n%s", want, out)
		}
	}
}

func TestSameBytes(t *testing.T) {
	var a, b bytes.Buffer
	x, y := File{"a", []byte("1")}, File{"b", []byte("2")}
	if err := Write(&a, "L", made, x, y); err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, "L", made, y, x); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) || a.Len()%Sector != 0 {
		t.Error("the order of files changes the image, or it is no whole number of sectors")
	}
}

func TestRefuses(t *testing.T) {
	for name, call := range map[string]func() error{
		"label":      func() error { return Write(&bytes.Buffer{}, strings.Repeat("x", 17), made) },
		"no name":    func() error { return Write(&bytes.Buffer{}, "x", made, File{}) },
		"slash":      func() error { return Write(&bytes.Buffer{}, "x", made, File{Name: "a/b"}) },
		"long name":  func() error { return Write(&bytes.Buffer{}, "x", made, File{Name: strings.Repeat("n", 65)}) },
		"same name":  func() error { return Write(&bytes.Buffer{}, "x", made, File{Name: "a b"}, File{Name: "a-b"}) },
		"many files": func() error { return Write(&bytes.Buffer{}, "x", made, make([]File, 17)...) },
	} {
		if call() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
