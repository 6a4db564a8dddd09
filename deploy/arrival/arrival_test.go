package arrival_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy/arrival"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/raw"
	"github.com/ovation-project/ovation/disk/vmdk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/ovf"
)

const (
	capacity = 4 << 20
	vmdkURI  = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is a disk that boots with UEFI, by its partition table.
func content() []byte {
	b := make([]byte, capacity)
	b[510], b[511], b[446+4] = 0x55, 0xaa, 0xee
	copy(b[512:], "EFI PART")
	b[512+72], b[512+80], b[512+84] = 2, 128, 128
	copy(b[1024:], []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b})
	for i := 1 << 20; i < 3<<20-200; i++ {
		b[i] = byte(i >> 3)
	}
	return b
}

// image makes an image in a format, as a file.
func image(t *testing.T, format, subformat string) []byte {
	t.Helper()
	dir := t.TempDir()
	check(t, write(t.Context(), dir, format, subformat, source{bytes.NewReader(content())}))
	data, err := os.ReadFile(filepath.Join(dir, "disk"))
	check(t, err)
	return data
}

type source struct{ *bytes.Reader }

func (source) Close() error { return nil }
func (s source) Extent(_ context.Context, off int64) (disk.Extent, error) {
	return disk.Extent{Offset: off, Length: s.Size() - off, Kind: disk.Data}, nil
}

func write(ctx context.Context, dir, format, subformat string, src convert.Source) error {
	set := atomicfile.New(ctx, dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	f, err := formats.ByName(format)
	if err != nil {
		return err
	}
	w, err := f.Create(ctx, set, convert.Suit(ctx, f, src, disk.CreateOptions{Name: "disk", Subformat: subformat}, false))
	if err == nil {
		_, err = convert.Run(ctx, src, w, convert.Options{})
	}
	if err == nil {
		err = set.Commit(ctx)
	}
	return err
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

// file is one of a package.
type file struct {
	name string
	data []byte
}

// pack makes an archive with a manifest behind the descriptor. attributes are
// those of the File element, format that of the disk in the first file.
func pack(t *testing.T, attributes, format string, files ...file) []byte {
	t.Helper()
	text := fmt.Sprintf(`<Envelope xmlns=%[1]q xmlns:ovf=%[1]q><References><File ovf:id="d" ovf:href="d" %s/><File ovf:id="cd" ovf:href="cd"/></References>
<DiskSection><Info/><Disk ovf:diskId="disk" ovf:fileRef="d" ovf:capacity="%d" ovf:format=%q/><Disk ovf:diskId="empty" ovf:capacity="1048576"/></DiskSection><VirtualSystem ovf:id="vm"><Info/></VirtualSystem></Envelope>`,
		ovf.NS1, attributes, capacity, format)
	files = append([]file{{"a.ovf", []byte(text)}}, files...)
	var manifest strings.Builder
	for _, f := range files {
		fmt.Fprintf(&manifest, "SHA256(%s)= %x\n", f.name, sha256.Sum256(f.data))
	}
	files = append([]file{files[0], {"a.mf", []byte(manifest.String())}}, files[1:]...)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		check(t, w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o600, Format: tar.FormatUSTAR}))
		_, err := w.Write(f.data)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// begun is an arrival, and what its descriptor says.
type begun struct {
	*arrival.Arrival
	t     *testing.T
	r     *ovf.Resolved
	temp  string
	notes []string
}

func begin(t *testing.T, r io.Reader) *begun {
	t.Helper()
	b := &begun{t: t, temp: t.TempDir()}
	var err error
	b.Arrival, err = arrival.Begin(t.Context(), r, arrival.Options{TempDir: b.temp, Note: func(s string) { b.notes = append(b.notes, s) }})
	check(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(b.temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	b.r, err = ovf.Resolve(b.Package().Document().Envelope(), ovf.ResolveOptions{})
	check(t, err)
	return b
}

func (b *begun) disk() *ovf.ResolvedDisk { return b.r.Disks["disk"] }
func (b *begun) cd() *ovf.File           { return b.r.Envelope.References[1] }

// to writes the disk to an image of its own in a format.
func (b *begun) to(ctx context.Context, format string) (string, error) {
	dir := b.t.TempDir()
	set := atomicfile.New(ctx, dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	err := b.CopyDisk(ctx, b.disk(), func(ctx context.Context, src convert.Source) (disk.Writer, error) {
		f, err := formats.ByName(format)
		if err != nil {
			return nil, err
		}
		return f.Create(ctx, set, convert.Suit(ctx, f, src, disk.CreateOptions{Name: "disk"}, false))
	})
	if err == nil {
		err = set.Commit(ctx)
	}
	return filepath.Join(dir, "disk"), err
}

// holds sees that an image is the disk.
func holds(t *testing.T, path, format string) {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(path)
	check(t, err)
	img, err := formats.Open(t.Context(), source{bytes.NewReader(data)}, format, disk.OpenOptions{})
	check(t, err)
	defer img.Close()
	check(t, write(t.Context(), dir, "raw", "", img))
	got, err := os.ReadFile(filepath.Join(dir, "disk"))
	if err != nil || !bytes.Equal(got, content()) {
		t.Errorf("%s is another disk: %v", path, err)
	}
}

// TestSeveral has a disk taken by three at once, whatever format it comes in: it
// is read once, and seen.
func TestSeveral(t *testing.T) {
	raw := content()
	for name, c := range map[string]struct {
		attributes, format string
		files              []file
		copied             bool
	}{
		"raw":                    {"", "raw", []file{{"d", raw}}, false},
		"streamOptimized":        {"", vmdkURI, []file{{"d", image(t, "vmdk", "streamOptimized")}}, false},
		"raw, compressed":        {`ovf:compression="gzip"`, "raw", []file{{"d", zipped(t, raw)}}, false},
		"less than its capacity": {"", "raw", []file{{"d", zipped(t, raw[:3<<20-100])}}, false},
		"chunks of a size that nobody says": {fmt.Sprintf(`ovf:chunkSize="%d"`, 3<<20), "raw",
			[]file{{"d.000000000", raw[:3<<20]}, {"d.000000001", raw[3<<20:]}}, false},
		"sparse VMDK": {"", "", []file{{"d", image(t, "vmdk", "monolithicSparse")}}, true},
		"qcow2":       {"", "", []file{{"d", image(t, "qcow2", "")}}, true},
		"chunks of a size that is said": {fmt.Sprintf(`ovf:chunkSize="%d" ovf:size="%d"`, 1<<20, capacity), "raw",
			[]file{{"d.000000000", raw[:1<<20]}, {"d.000000001", raw[1<<20 : 2<<20]}, {"d.000000002", raw[2<<20 : 3<<20]}, {"d.000000003", raw[3<<20:]}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, bytes.NewReader(pack(t, c.attributes, c.format, append(c.files, file{"cd", []byte("a CD")}, file{"more", []byte("nobody's")})...)))
			if seen, err := b.LookDisk(t.Context(), b.disk()); err != nil || seen.Boot.Kind != "" || seen.Size != -1 {
				t.Errorf("seen before it came: %+v, %v", seen, err)
			}
			d := b.disk()
			b.Expect([]*ovf.ResolvedDisk{d, d, d, b.r.Disks["empty"]}, []*ovf.File{b.cd()})
			var wg sync.WaitGroup
			paths := make([]string, 3)
			for i := range paths {
				wg.Go(func() {
					var err error
					if paths[i], err = b.to(t.Context(), "qcow2"); err != nil {
						t.Error(err)
					}
				})
			}
			var cd bytes.Buffer
			wg.Go(func() {
				if err := b.CopyFile(t.Context(), b.cd(), &cd); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			pkg, report, err := b.Finish(t.Context())
			check(t, err)
			if pkg.Manifest() == nil || report.Err() != nil || pkg.Coming() || !b.Package().Coming() {
				t.Errorf("%+v", report)
			}
			for _, p := range paths {
				if !t.Failed() {
					holds(t, p, "qcow2")
				}
			}
			if cd.String() != "a CD" {
				t.Errorf("the CD holds %q", cd.String())
			}
			seen, err := b.LookDisk(t.Context(), d)
			if err != nil || seen.Boot.Kind != hypervisor.UEFI || seen.Size != capacity {
				t.Errorf("seen: %+v, %v", seen, err)
			}
			if (len(b.notes) > 0) != c.copied {
				t.Errorf("notes %q", b.notes)
			}
			if err := b.CopyDisk(t.Context(), d, nil); !errors.Is(err, arrival.ErrPassed) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestWaits has nothing of the files read before it is known what is wanted, and
// files that are taken later than they come.
func TestWaits(t *testing.T) {
	archive := pack(t, "", "raw", file{"d", content()}, file{"cd", []byte("a CD")})
	at := bytes.Index(archive, content()[:512])
	r, w := io.Pipe()
	defer w.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := w.Write(archive[:at])
		sent <- err
	}()
	b := begin(t, r) // which is there without a byte of the disk
	check(t, <-sent)
	go func() {
		_, _ = w.Write(archive[at:])
		w.Close()
	}()
	b.Expect([]*ovf.ResolvedDisk{b.disk()}, []*ovf.File{b.cd()})
	// The file is asked for first, and comes second.
	var cd bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- b.CopyFile(t.Context(), b.cd(), &cd) }()
	path, err := b.to(t.Context(), "raw")
	check(t, err)
	check(t, <-done)
	holds(t, path, "raw")
	_, _, err = b.Finish(t.Context())
	check(t, err)
}

// TestFails has archives that end before all of it is there, or are not what their
// manifests say.
func TestFails(t *testing.T) {
	vmdk := image(t, "vmdk", "streamOptimized")
	whole := pack(t, "", vmdkURI, file{"d", vmdk}, file{"cd", []byte("a CD")})
	in := bytes.Index(whole, vmdk)
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		// The digest tells more than what the damage does to the disk.
		"altered data":           {flip(in + len(vmdk)/2), appliance.ErrAltered},
		"altered header":         {flip(in + 17), appliance.ErrAltered},
		"altered CD":             {flip(bytes.LastIndex(whole, []byte("a CD"))), appliance.ErrAltered},
		"cut short":              {whole[:in+len(vmdk)/2], appliance.ErrInvalid},
		"missing":                {pack(t, "", vmdkURI, file{"cd", []byte("a CD")}), appliance.ErrIncomplete},
		"another size":           {pack(t, `ovf:size="7"`, vmdkURI, file{"d", vmdk}), appliance.ErrAltered},
		"more than its capacity": {pack(t, "", "raw", file{"d", zipped(t, append(content(), make([]byte, 512)...))}), appliance.ErrInvalid},
		"compressed, cut short":  {pack(t, "", "raw", file{"d", zipped(t, content())[:5000]}), disk.ErrCorrupt},
		"no disk":                {pack(t, "", "", file{"d", []byte("QFI\xfb and nothing of the kind")}), disk.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, bytes.NewReader(c.archive))
			b.Expect([]*ovf.ResolvedDisk{b.disk()}, []*ovf.File{b.cd()})
			errs := make(chan error, 2)
			go func() {
				_, err := b.to(t.Context(), "qcow2")
				errs <- err
			}()
			go func() { errs <- b.CopyFile(t.Context(), b.cd(), io.Discard) }()
			err := errors.Join(<-errs, <-errs)
			if _, _, finish := b.Finish(t.Context()); finish == nil && err == nil || finish != nil && !errors.Is(finish, c.want) {
				t.Errorf("%v, finish %v, want %v", err, finish, c.want)
			}
		})
	}
	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"nothing":         {nil, appliance.ErrInvalid},
		"descriptor last": {whole[bytes.Index(whole, vmdk)-512:], appliance.ErrInvalid},
	} {
		if a, err := arrival.Begin(t.Context(), bytes.NewReader(c.archive), arrival.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

// TestGivenUp ends an arrival that waits: for bytes, for somebody who takes what
// has come, for a writer.
func TestGivenUp(t *testing.T) {
	archive := pack(t, "", "raw", file{"d", content()}, file{"cd", []byte("a CD")})
	stalls := func(n int) io.Reader {
		r, w := io.Pipe()
		t.Cleanup(func() { w.Close() })
		go func() { _, _ = w.Write(archive[:n]) }()
		return r
	}
	t.Run("closed before", func(t *testing.T) { begin(t, bytes.NewReader(archive)) })
	t.Run("nobody takes it", func(t *testing.T) {
		b := begin(t, bytes.NewReader(archive))
		b.Expect([]*ovf.ResolvedDisk{b.disk()}, nil)
	})
	t.Run("nothing more comes", func(t *testing.T) {
		b := begin(t, stalls(len(archive)/2))
		b.Expect([]*ovf.ResolvedDisk{b.disk()}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() {
			_, err := b.to(ctx, "raw")
			got <- err
		}()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		// Where one gives up, all do.
		if _, _, err := b.Finish(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the writer fails", func(t *testing.T) {
		b := begin(t, bytes.NewReader(archive))
		b.Expect([]*ovf.ResolvedDisk{b.disk()}, []*ovf.File{b.cd()})
		full := errors.New("no room")
		if err := b.CopyDisk(t.Context(), b.disk(), func(context.Context, convert.Source) (disk.Writer, error) { return nil, full }); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		if err := b.CopyFile(t.Context(), b.cd(), io.Discard); !errors.Is(err, full) {
			t.Errorf("the next: %v", err)
		}
	})
}

// TestNoOrder has a disk whose parts come in no order: who can write them where they
// belong takes it, and who can't is told, and not to try again.
func TestNoOrder(t *testing.T) {
	dir := t.TempDir()
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	w, err := vmdk.Format{}.Create(t.Context(), set, disk.CreateOptions{Name: "disk", Size: capacity, Subformat: "streamOptimized"})
	check(t, err)
	want := content()
	const part = 1 << 20
	for _, at := range []int64{2 * part, 0, 3 * part, part} {
		_, err := w.WriteAt(want[at:at+part], at)
		check(t, err)
	}
	check(t, w.Finish(t.Context()))
	check(t, set.Commit(t.Context()))
	data, err := os.ReadFile(filepath.Join(dir, "disk"))
	check(t, err)
	archive := pack(t, "", vmdkURI, file{"d", data}, file{"cd", nil})

	b := begin(t, bytes.NewReader(archive))
	b.Expect([]*ovf.ResolvedDisk{b.disk()}, nil)
	path, err := b.to(t.Context(), "qcow2")
	check(t, err)
	holds(t, path, "qcow2")
	if seen, err := b.LookDisk(t.Context(), b.disk()); err != nil || seen.Boot.Kind != hypervisor.UEFI {
		t.Errorf("seen: %+v, %v", seen, err)
	}

	b = begin(t, bytes.NewReader(archive))
	b.Expect([]*ovf.ResolvedDisk{b.disk()}, nil)
	err = b.CopyDisk(t.Context(), b.disk(), func(ctx context.Context, src convert.Source) (disk.Writer, error) {
		return raw.Format{}.CreateStream(ctx, io.Discard, disk.CreateOptions{Name: "disk", Size: src.Size()})
	})
	if err == nil || errors.Is(err, disk.ErrNeedsSeek) || !strings.Contains(err.Error(), "save the package to a file") {
		t.Errorf("in no order to where there has to be one: %v", err)
	}
}
