package formats_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/disk/formats"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdSized tells how much it holds.
func zstdSized(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// image makes an image of content.
func image(t testing.TB, name, format string, compress bool, content []byte) []byte {
	t.Helper()
	f, err := formats.ByName(format)
	if err != nil {
		t.Fatal(err)
	}
	src, err := formats.Open(t.Context(), disktest.NewMemFile(content), "raw", disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := disktest.MemFiles{}
	w, err := f.Create(t.Context(), files, disk.CreateOptions{Name: name, Size: src.Size(), Compress: compress})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Run(t.Context(), src, w, convert.Options{}); err != nil {
		t.Fatal(err)
	}
	return files[name].Bytes()
}

// spool keeps copies in memory, and counts those that are not closed.
type spool struct{ open, all int }

func (s *spool) copy(_ context.Context, r io.Reader, why string) (disk.File, error) {
	if !strings.Contains(why, "compressed by") {
		return nil, errors.New(why)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s.open++
	s.all++
	return copied{disktest.NewMemFile(b), s}, nil
}

type copied struct {
	*disktest.MemFile
	s *spool
}

func (c copied) Close() error { c.s.open--; return nil }

func TestCompressedFiles(t *testing.T) {
	want := disktest.Sample(3 << 20)
	vmdk := image(t, "x.vmdk", "vmdk", false, want)
	qcow2 := image(t, "x.qcow2", "qcow2", true, want)
	for name, test := range map[string]struct {
		file       []byte
		as, format string
		streamed   bool // as it arrives, of unknown size
		seek       bool // cannot be streamed at all
		noted      bool
	}{
		"raw.gz":          {gzipped(t, want), "", "raw", false, false, true},
		"raw.gz, named":   {gzipped(t, want), "raw.gz", "raw", false, false, true},
		"raw.zst":         {zstdSized(t, want), "", "raw", false, false, false},
		"vmdk.gz":         {gzipped(t, vmdk), "", "vmdk", true, false, false},
		"vmdk.gz, named":  {gzipped(t, vmdk), "vmdk", "vmdk", true, false, false},
		"qcow2.zst":       {zstdSized(t, qcow2), "", "qcow2", false, true, false},
		"qcow2 named raw": {gzipped(t, qcow2), "raw.gz", "raw", false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			want := want
			if test.format == "raw" && strings.HasPrefix(name, "qcow2") {
				want = qcow2
			}
			f := disktest.NewMemFile(test.file)
			if _, err := formats.Open(t.Context(), f, test.as, disk.OpenOptions{}); !errors.Is(err, disk.ErrUnsupported) {
				t.Errorf("without a place for copies: %v", err)
			}
			var s spool
			img, err := formats.Open(t.Context(), f, test.as, disk.OpenOptions{Spool: s.copy})
			if err != nil {
				t.Fatal(err)
			}
			if info := img.(disk.Informer).Info(); info.Format != test.format || info.Packed == "" {
				t.Errorf("%+v", info)
			}
			if err := disktest.Same(img, want); err != nil {
				t.Error(err)
			}
			if err := img.Close(); err != nil || s.open != 0 || s.all != 1 {
				t.Errorf("%d copies of %d left, %v", s.open, s.all, err)
			}

			noted := false
			st, err := formats.OpenPacked(t.Context(), f, test.as, func(string) { noted = true })
			if test.seek {
				if !errors.Is(err, disk.ErrNeedsSeek) {
					t.Errorf("as a stream: %v", err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				if got, err := disktest.ReadStream(st); err != nil || !bytes.Equal(got, want) {
					t.Errorf("as a stream: %d bytes, %v", len(got), err)
				}
				if _, err := st.Next(t.Context()); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
			}
			if noted != test.noted {
				t.Errorf("said: %v", noted)
			}
			if test.as != "" {
				return
			}
			st, err = formats.OpenStream(t.Context(), iotest.HalfReader(bytes.NewReader(test.file)), int64(len(test.file)))
			if !test.streamed {
				if !errors.Is(err, disk.ErrNeedsSeek) {
					t.Errorf("as it arrives: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := disktest.ReadStream(st); err != nil || !bytes.Equal(got, want) {
				t.Errorf("as it arrives: %d bytes, %v", len(got), err)
			}
		})
	}
}

// The end of a compressed file counts: its checksum, and what is behind the
// disk.
func TestEndsOfCompressedFiles(t *testing.T) {
	want := disktest.Sample(1 << 20)
	vmdk := image(t, "x.vmdk", "vmdk", false, want)
	sum := gzipped(t, vmdk)
	sum[len(sum)-8] ^= 1
	cut := gzipped(t, vmdk)
	for name, test := range map[string]struct {
		file []byte
		want error
	}{
		"wrong checksum":      {sum, disk.ErrCorrupt},
		"cut within its end":  {cut[:len(cut)-3], io.ErrUnexpectedEOF},
		"cut":                 {cut[:len(cut)/2], io.ErrUnexpectedEOF},
		"padding":             {gzipped(t, append(bytes.Clone(vmdk), make([]byte, 1<<20)...)), nil},
		"more behind":         {gzipped(t, append(bytes.Clone(vmdk), make([]byte, 17<<20)...)), disk.ErrCorrupt},
		"raw that breaks off": {zstdSized(t, want)[:1<<17], io.ErrUnexpectedEOF},
	} {
		st, err := formats.OpenPacked(t.Context(), disktest.NewMemFile(test.file), "", nil)
		if err == nil {
			_, err = disktest.ReadStream(st)
		}
		if !errors.Is(err, test.want) || test.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	twice := gzipped(t, gzipped(t, want))
	var s spool
	if _, err := formats.Open(t.Context(), disktest.NewMemFile(twice), "", disk.OpenOptions{Spool: s.copy}); !errors.Is(err, disk.ErrUnsupported) || s.open != 0 {
		t.Errorf("compressed twice: %v, %d copies left", err, s.open)
	}
	if _, err := formats.OpenPacked(t.Context(), disktest.NewMemFile(twice), "", nil); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("compressed twice, as a stream: %v", err)
	}
	if _, err := formats.Open(t.Context(), disktest.NewMemFile(twice), "raw.xz", disk.OpenOptions{Spool: s.copy}); !errors.Is(err, disk.ErrFormat) {
		t.Errorf("gzip as xz: %v", err)
	}
	if m, err := formats.Open(t.Context(), disktest.NewMemFile(twice), "raw", disk.OpenOptions{}); err != nil || m.Size() != int64(len(twice)) {
		t.Errorf("named raw: %v", err)
	}
	if _, err := formats.OpenPacked(t.Context(), disktest.NewMemFile(want), "", nil); !errors.Is(err, disk.ErrFormat) {
		t.Errorf("not compressed: %v", err)
	}
}
