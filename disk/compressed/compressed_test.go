package compressed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/internal/testenv"
)

// pack compresses by the tool that users have.
func pack(t testing.TB, content []byte, tool string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testenv.NeedTool(t, tool), append(args, "-c")...)
	cmd.Stdin = bytes.NewReader(content)
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	return b
}

// tools are the ways to make each method's files.
var tools = []struct {
	method compressed.Method
	tool   string
	args   []string
	// checked says that the file has a checksum of its content, sized that it
	// tells how much that is.
	checked, sized bool
}{
	{compressed.Gzip, "gzip", nil, true, false},
	{compressed.Gzip, "gzip", []string{"-1"}, true, false},
	{compressed.XZ, "xz", []string{"-1"}, true, true},
	{compressed.XZ, "xz", []string{"-1", "-T2", "--block-size=200000"}, true, true},
	{compressed.XZ, "xz", []string{"-1", "--check=none", "--block-size=300000"}, false, true},
	{compressed.XZ, "xz", []string{"-1", "--check=sha256", "--x86", "--lzma2=preset=1"}, true, true},
	{compressed.Zstd, "zstd", []string{"-q", "-3"}, true, false},
	{compressed.Zstd, "zstd", []string{"-q", "-3", "--no-check"}, false, false},
	{compressed.Zstd, "zstd", []string{"-q", "-3", "--long=27"}, true, false},
	{compressed.Bzip2, "bzip2", []string{"-1"}, true, false},
}

func unpack(m compressed.Method, r io.Reader, limit int64) ([]byte, error) {
	c, err := m.NewReader(r, limit)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// open unpacks a file that can be read anywhere.
func open(t testing.TB, m compressed.Method, b []byte, limit int64) ([]byte, error) {
	c, err := m.Open(t.Context(), disktest.NewMemFile(b), limit)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

func TestFilesOfTheTools(t *testing.T) {
	content := disktest.Sample(600<<10 + 100)
	for _, c := range tools {
		t.Run(fmt.Sprint(c.tool, c.args), func(t *testing.T) {
			t.Parallel()
			packed := pack(t, content, c.tool, c.args...)
			if m := compressed.Detect(packed[:compressed.HeadSize]); m != c.method {
				t.Fatalf("detected as %v", m)
			}
			same := func(what string, r io.Reader, want []byte) {
				t.Helper()
				got, err := unpack(c.method, r, int64(len(want)))
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes of other content", what, len(got))
				}
			}
			same("whole", bytes.NewReader(packed), content)
			same("in small pieces", iotest.HalfReader(bytes.NewReader(packed)), content)
			twice := append(bytes.Clone(packed), packed...)
			both := append(bytes.Clone(content), content...)
			same("two in a row", bytes.NewReader(twice), both)
			same("two in a row, with the end", iotest.DataErrReader(bytes.NewReader(twice)), both)
			f := disktest.NewMemFile(twice)
			if n, ok, err := c.method.Size(t.Context(), f); err != nil || ok != c.sized || ok && n != int64(len(both)) {
				t.Errorf("Size gives %d, %v, %v", n, ok, err)
			}
			if got, err := open(t, c.method, twice, int64(len(both))); err != nil || !bytes.Equal(got, both) {
				t.Errorf("opened: %d bytes, %v", len(got), err)
			}
			if _, err := open(t, c.method, twice, int64(len(both))-1); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("opened, more than the limit: %v", err)
			}
			if n, err := c.method.Count(t.Context(), f); err != nil || n != int64(len(both)) {
				t.Errorf("Count gives %d, %v", n, err)
			}

			for _, cut := range []int{1, 5, len(packed) / 2, len(packed) - 3} {
				_, err := unpack(c.method, bytes.NewReader(packed[:len(packed)-cut]), compressed.MaxContent)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%d bytes less: %v, want ErrUnexpectedEOF", cut, err)
				}
			}
			if _, err := unpack(c.method, bytes.NewReader(packed), int64(len(content))-1); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("more than the limit: %v, want ErrCorrupt", err)
			}
			if _, err := unpack(c.method, bytes.NewReader(append(bytes.Clone(packed), "something else"...)), compressed.MaxContent); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("with something else behind: %v, want ErrCorrupt", err)
			}
			failing := errors.New("the network is gone")
			_, err := unpack(c.method, io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(failing)), compressed.MaxContent)
			if !errors.Is(err, failing) || errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("a source that fails: %v", err)
			}
			r := rand.New(rand.NewPCG(1, 1))
			for range 20 {
				bad := bytes.Clone(packed)
				at := r.IntN(len(bad))
				bad[at] ^= byte(1 + r.IntN(255))
				got, err := unpack(c.method, bytes.NewReader(bad), 4<<20)
				if again, openErr := open(t, c.method, bad, 4<<20); (openErr == nil) != (err == nil) || err == nil && !bytes.Equal(got, again) {
					t.Errorf("byte %d altered: %v, and opened %v", at, err, openErr)
				}
				switch {
				case err == nil && c.checked && !bytes.Equal(got, content):
					t.Errorf("byte %d altered: no error", at)
				case err != nil && !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, disk.ErrUnsupported):
					t.Errorf("byte %d altered: %v", at, err)
				}
			}
		})
	}
}

func TestZeroesBehindTheEnd(t *testing.T) {
	content := disktest.Sample(100 << 10)
	for tool, m := range map[string]compressed.Method{"gzip": compressed.Gzip, "xz": compressed.XZ} {
		packed := append(pack(t, content, tool), make([]byte, 1024)...)
		if got, err := unpack(m, bytes.NewReader(packed), compressed.MaxContent); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %v", tool, err)
		}
	}
}

// TestMemoryThatAFileAsksFor is bounded: the header of an xz file may ask for
// 4 GiB.
func TestMemoryThatAFileAsksFor(t *testing.T) {
	packed := pack(t, []byte("small"), "xz", "--lzma2=dict=1536MiB")
	if _, err := unpack(compressed.XZ, bytes.NewReader(packed), compressed.MaxContent); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
}

func TestOtherFilesAreNotCompressed(t *testing.T) {
	for _, head := range []string{"", "KDMV", "QFI\xfb\x00\x00\x00\x03", "\x1f\x8b", "BZh9 is no disk", "conectix"} {
		if m := compressed.Detect([]byte(head)); m != compressed.None {
			t.Errorf("%q is taken for %v", head, m)
		}
	}
	if _, err := compressed.None.NewReader(bytes.NewReader(nil), 0); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

func TestCountEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := disktest.NewMemFile(pack(t, []byte("content"), "gzip"))
	if _, err := compressed.Gzip.Count(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Blocks are unpacked in parallel: what is before a damaged one comes, and the
// error says where it is.
func TestDamagedBlock(t *testing.T) {
	content := disktest.Sample(2 << 20)
	packed := pack(t, content, "xz", "-1", "--block-size=200000")
	packed[len(packed)/2] ^= 0x55
	got, err := open(t, compressed.XZ, packed, compressed.MaxContent)
	if !errors.Is(err, disk.ErrCorrupt) || len(got)%200000 != 0 || !bytes.Equal(got, content[:len(got)]) || len(got) == 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	var at, n int64
	if _, scan := fmt.Sscanf(err.Error(), "xz: at about byte %d of the file (%d of its content)", &at, &n); scan != nil || n < int64(len(got)) || n >= int64(len(got))+200000 || at < int64(len(packed))/4 || at > int64(len(packed))*3/4 {
		t.Errorf("%d bytes, then %v", len(got), err)
	}
}

func TestOpenEnds(t *testing.T) {
	packed := pack(t, disktest.Sample(2<<20), "xz", "-1", "--block-size=200000")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := compressed.XZ.Open(ctx, disktest.NewMemFile(packed), compressed.MaxContent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r, err = compressed.XZ.Open(t.Context(), disktest.NewMemFile(packed), compressed.MaxContent); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil { // with work under way
		t.Error(err)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	content := disktest.Sample(1 << 20)
	for _, c := range tools {
		packed := pack(t, content, c.tool, c.args...)
		cut := packed[:len(packed)*3/4]
		_, err := unpack(c.method, bytes.NewReader(cut), compressed.MaxContent)
		var at int64
		if err == nil {
			t.Fatalf("%s: cut, and no error", c.tool)
		}
		if _, scanErr := fmt.Sscanf(strings.TrimPrefix(err.Error(), c.method.String()+": the file breaks off "), "at about byte %d", &at); scanErr != nil || at > int64(len(cut)) || at < int64(len(cut))-64<<10 {
			t.Errorf("%s of %d bytes: %v", c.tool, len(cut), err)
		}
	}
}

// The zstd tool tells the size where it knows it.
func TestSizeOfZstd(t *testing.T) {
	content := disktest.Sample(1 << 20)
	packed := pack(t, content, "zstd", "-q", fmt.Sprint("--stream-size=", len(content)))
	// Frames that are to be skipped, as pzstd has, and one of noughts.
	packed = append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"), packed...)
	packed = append(packed, pack(t, make([]byte, 1<<20), "zstd", "-q", "--stream-size=1048576")...)
	if m := compressed.Detect(packed); m != compressed.Zstd {
		t.Fatalf("detected as %v", m)
	}
	f := disktest.NewMemFile(packed)
	if n, ok, err := compressed.Zstd.Size(t.Context(), f); err != nil || !ok || n != 2<<20 {
		t.Errorf("%d, %v, %v", n, ok, err)
	}
	got, err := unpack(compressed.Zstd, bytes.NewReader(packed), 2<<20)
	if err != nil || !bytes.Equal(got[:1<<20], content) || len(got) != 2<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := f.Truncate(int64(len(packed) - 2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := compressed.Zstd.Size(t.Context(), f); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

func TestCutEnding(t *testing.T) {
	for name, want := range map[string]string{
		"disk.img.XZ": "disk.img xz", "a.raw.zst": "a.raw zstd", "d.vmdk.gz": "d.vmdk gzip", "d.img.bz2": "d.img bzip2",
		"disk.img": "disk.img none", ".gz": ".gz none", "gz": "gz none",
	} {
		base, m := compressed.CutEnding(name)
		if got := fmt.Sprint(base, " ", m); got != want {
			t.Errorf("%s gives %s, want %s", name, got, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, c := range tools {
		if _, err := exec.LookPath(c.tool); err == nil {
			f.Add(pack(f, []byte("a small disk, and a small disk"), c.tool, c.args...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := compressed.Detect(b)
		if m == compressed.None {
			return
		}
		const limit = 1 << 20
		got, err := unpack(m, bytes.NewReader(b), limit)
		if len(got) > limit {
			t.Fatalf("%d bytes", len(got))
		}
		if err != nil && !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, disk.ErrUnsupported) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if again, openErr := open(t, m, b, limit); (openErr == nil) != (err == nil) || err == nil && !bytes.Equal(got, again) {
			t.Fatalf("%v, and opened %v", err, openErr)
		}
		n, ok, sizeErr := m.Size(t.Context(), disktest.NewMemFile(b))
		if err == nil && m != compressed.Bzip2 && (sizeErr != nil || ok && n != int64(len(got))) {
			t.Fatalf("Size gives %d, %v; there are %d bytes", n, sizeErr, len(got))
		}
	})
}

func Example() {
	var file bytes.Buffer
	w, err := compressed.Zstd.NewWriter(context.Background(), &file, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(w, "what the guest sees")
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	method := compressed.Detect(file.Bytes())
	r, err := method.NewReader(&file, compressed.MaxContent)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(method, string(content), err)
	// Output: zstd what the guest sees <nil>
}
