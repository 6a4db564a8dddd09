package formats_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/disk/formats"
)

// probing is all formats, as one that tells them by their bytes.
type probing struct{ disk.Format }

func (probing) Open(ctx context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	opt.Spool = func(_ context.Context, r io.Reader, _ string) (disk.File, error) {
		b, err := io.ReadAll(io.LimitReader(r, 1<<20))
		return disktest.NewMemFile(b), err
	}
	return formats.Open(ctx, f, "", opt)
}

// header gives the first bytes of an empty image.
func header(f testing.TB, name string, opt disk.CreateOptions) []byte {
	f.Helper()
	format, err := formats.ByName(name)
	if err != nil {
		f.Fatal(err)
	}
	files := disktest.MemFiles{}
	opt.Name, opt.Size = "x", 256<<10
	w, err := format.Create(context.Background(), files, opt)
	if err != nil {
		f.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		f.Fatal(err)
	}
	return files["x"].Bytes()
}

// FuzzOpen opens an image beside which there is another one, and which may name
// that, itself, or what is outside.
func FuzzOpen(f *testing.F) {
	backed := func(name string) []byte {
		b := bytes.Clone(header(f, "qcow2", disk.CreateOptions{Unit: 4096}))
		copy(b[512:], name)
		b[14], b[15], b[19] = 2, 0, byte(len(name)) // 512, in big endian
		return b
	}
	delta := func(parent string) []byte {
		return fmt.Appendf(nil, "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\ncreateType=\"vmfsSparse\"\nparentFileNameHint=%q\nRW 16 ZERO\nRW 16 FLAT \"b\" 0\n", parent)
	}
	plain := header(f, "vmdk", disk.CreateOptions{Subformat: "monolithicSparse", Unit: 4096})
	for _, name := range []string{"a", "b", "../a", "/etc/passwd", "json:{}", ""} {
		f.Add(backed(name), plain)
		f.Add(delta(name), delta("a"))
		f.Add(backed(name), backed("a"))
		f.Add(plain, delta(name))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		files := disktest.MemFiles{"a": disktest.NewMemFile(a), "b": disktest.NewMemFile(b)}
		disktest.HostileFiles(t, probing{}, files, "a")
	})
}
