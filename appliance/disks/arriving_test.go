package disks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/atomicfile"
)

// arrived converts a disk of an archive that comes once to a raw one.
func arrived(t *testing.T, ova []byte, name string, opt Options) ([]byte, error) {
	t.Helper()
	src, err := OpenArriving(t.Context(), struct{ io.Reader }{bytes.NewReader(ova)}, name, opt)
	if err != nil {
		return nil, err
	}
	defer func() { check(t, src.Close()) }()
	dir := t.TempDir()
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{})
	defer set.Abort()
	f, err := formats.ByName("raw")
	check(t, err)
	w, err := f.Create(t.Context(), set, convert.Suit(t.Context(), f, src.Disk, disk.CreateOptions{Name: "out"}, true))
	check(t, err)
	if _, err := src.Convert(t.Context(), w, convert.Options{}); err != nil {
		return nil, err
	}
	check(t, set.Commit(t.Context()))
	return os.ReadFile(filepath.Join(dir, "out"))
}

func TestArriving(t *testing.T) {
	vmdk, qcow2 := image(t, "vmdk", ""), image(t, "qcow2", "")
	for name, test := range map[string]struct {
		attributes, format string
		file               []byte
		copied             bool
	}{
		"streamOptimized": {"", vmdkURI, vmdk, false},
		"gzip":            {`ovf:compression="gzip"`, vmdkURI, gzipped(t, vmdk), false},
		"raw":             {"", "", content(), false},
		"qcow2":           {"", "", qcow2, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := pack(t, test.attributes, test.format, []entry{{"before", []byte("x")}, {"disk.img", test.file}, {"behind", []byte("y")}}, true)
			ova, err := os.ReadFile(path)
			check(t, err)
			temp := t.TempDir()
			var notes []string
			opt := Options{TempDir: temp, Note: func(s string) { notes = append(notes, s) }}
			got, err := arrived(t, ova, "disk1", opt)
			check(t, err)
			if !bytes.Equal(got, content()) {
				t.Error("another disk")
			}
			if (len(notes) > 0) != test.copied {
				t.Errorf("notes %q", notes)
			}
			// What is behind the disk is proved as well.
			bad := bytes.Clone(ova)
			bad[bytes.LastIndex(bad, []byte("y"))] = 'z'
			if _, err := arrived(t, bad, "disk1", opt); !errors.Is(err, appliance.ErrAltered) {
				t.Errorf("altered behind the disk: %v", err)
			}
			if _, err := arrived(t, ova[:len(ova)-2048], "disk1", opt); err == nil {
				t.Error("cut short, and no error")
			}
			if _, err := arrived(t, ova[:bytes.Index(ova, test.file)+len(test.file)/2], "disk1", opt); err == nil {
				t.Error("cut in the disk, and no error")
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestArrivingRefuses(t *testing.T) {
	vmdk := image(t, "vmdk", "")
	whole := func(path string) []byte {
		b, err := os.ReadFile(path)
		check(t, err)
		return b
	}
	for name, c := range map[string]struct {
		ova  []byte
		disk string
		want error
	}{
		"no such disk":  {whole(pack(t, "", vmdkURI, []entry{{"disk.img", vmdk}}, true)), "disk7", ErrNoDisk},
		"an empty disk": {whole(pack(t, "", vmdkURI, []entry{{"disk.img", vmdk}}, true)), "empty", ErrNoDisk},
		"missing":       {whole(pack(t, "", vmdkURI, []entry{{"other.img", vmdk}}, true)), "disk1", appliance.ErrIncomplete},
		"chunks": {whole(pack(t, fmt.Sprintf(`ovf:chunkSize="%d"`, len(vmdk)), vmdkURI, []entry{{"disk.img.000000000", vmdk}}, true)), "disk1",
			disk.ErrNeedsSeek},
		"no archive": {[]byte("nothing of the kind"), "disk1", appliance.ErrInvalid},
	} {
		if _, err := arrived(t, c.ova, c.disk, Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// One that is waited for can be given up.
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go w.Write(make([]byte, 10))
	if _, err := OpenArriving(ctx, r, "disk1", Options{}); err == nil {
		t.Error("opened")
	}
}
