package stream

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/lazy"
	"github.com/ovation-project/ovation/internal/faultserver"
	"github.com/ovation-project/ovation/internal/freespace"
)

const size = 3 << 20

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noise() []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// pack writes a package with one raw disk in pieces, as a folder and as an
// archive.
func pack(t testing.TB, digests bool, attributes string, pieces map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	descriptor := fmt.Sprintf(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f" ovf:href="disk.img" %s/></References>
  <DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="%d"/></DiskSection>
  <VirtualSystem ovf:id="vm"><Info/></VirtualSystem>
</Envelope>`, attributes, size)
	files := map[string][]byte{"a.ovf": []byte(descriptor)}
	order := []string{"a.ovf"}
	var mf strings.Builder
	for name, b := range pieces {
		files[name] = b
	}
	for name, b := range files {
		fmt.Fprintf(&mf, "SHA256(%s)= %x\n", name, sha256.Sum256(b))
	}
	if digests {
		files["a.mf"] = []byte(mf.String())
		order = append(order, "a.mf")
	}
	for name := range pieces {
		order = append(order, name)
	}
	ova, err := os.Create(filepath.Join(dir, "a.ova"))
	check(t, err)
	defer ova.Close()
	w := tar.NewWriter(ova)
	for _, name := range order {
		check(t, os.WriteFile(filepath.Join(dir, name), files[name], 0o666))
		check(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o644, Format: tar.FormatUSTAR}))
		_, err := w.Write(files[name])
		check(t, err)
	}
	check(t, w.Close())
	return dir
}

type failures struct {
	mu  sync.Mutex
	all []error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

func open(t testing.TB, locator string, opt Options) (*Stream, *failures) {
	t.Helper()
	p, err := appliance.Open(t.Context(), locator, appliance.Options{Retries: 30})
	check(t, err)
	f := &failures{}
	opt.Failed, opt.TempDir = f.add, t.TempDir()
	s := New(t.Context(), p, opt)
	t.Cleanup(func() {
		check(t, s.Close())
		check(t, p.Close())
	})
	return s, f
}

// same reads a disk here and there, and then whole.
func same(t testing.TB, s *Stream, want []byte) {
	t.Helper()
	img, err := s.Disk(t.Context(), "d")
	check(t, err)
	defer img.Close()
	for _, off := range []int{2 << 20, 17, size - 1000} {
		b := make([]byte, 1000)
		if _, err := img.ReadAt(b, int64(off)); err != nil || !bytes.Equal(b, want[off:off+1000]) {
			t.Errorf("at %d: %v, or other bytes", off, err)
		}
	}
	all := make([]byte, size)
	if _, err := img.ReadAt(all, 0); err != nil && err != io.EOF || !bytes.Equal(all, want) {
		t.Errorf("the whole: %v, or other bytes", err)
	}
}

func TestDisks(t *testing.T) {
	b := noise()
	for name, c := range map[string]struct {
		attributes string
		pieces     map[string][]byte
	}{
		"one file": {"", map[string][]byte{"disk.img": b}},
		"chunks": {fmt.Sprintf(`ovf:size="%d" ovf:chunkSize="1500000"`, size), map[string][]byte{
			"disk.img.000000000": b[:1500000], "disk.img.000000001": b[1500000:3000000], "disk.img.000000002": b[3000000:]}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := pack(t, true, c.attributes, c.pieces)
			server := faultserver.New(t, dir)
			server.Change(func(f *faultserver.Faults) { f.Drop = 400 << 10 })
			kept := cache.Open(t.TempDir())
			for _, locator := range []string{server.URL("a.ova"), server.URL("a.ovf")} {
				s, failed := open(t, locator, Options{Cache: kept})
				same(t, s, b)
				if parts, whole := s.Proved(); parts != (locator == server.URL("a.ovf")) || !whole {
					t.Errorf("proved: parts %v, whole %v", parts, whole)
				}
				s.Hurry()
				check(t, s.Fill(t.Context()))
				if st := s.Stats(); st.Present != st.Size || st.Size != size {
					t.Errorf("%+v", st)
				}
				// Gone, the server is not missed.
				server.Kill()
				same(t, s, b)
				check(t, server.Restart())
				check(t, s.Close())
				if len(failed.all) > 0 {
					t.Error(failed.all)
				}
			}
			all, err := kept.List(t.Context())
			check(t, err)
			for _, i := range all {
				if !i.Verified || i.Present != i.Size {
					t.Errorf("%+v", i)
				}
			}
			if len(all) != len(c.pieces) {
				t.Errorf("%d entries", len(all))
			}
			// The next time nothing of the disk is fetched.
			s, _ := open(t, server.URL("a.ova"), Options{Cache: kept})
			before := server.Fetched.Load()
			same(t, s, b)
			check(t, s.Fill(t.Context()))
			if n := server.Fetched.Load() - before; n != 0 {
				t.Errorf("%d bytes are fetched again", n)
			}
		})
	}
}

// A run that ended early leaves what it fetched, for the same source.
func TestGoingOn(t *testing.T) {
	b := noise()
	dir := pack(t, true, "", map[string][]byte{"disk.img": b})
	server := faultserver.New(t, dir)
	kept := cache.Open(t.TempDir())
	s, _ := open(t, server.URL("a.ova"), Options{Cache: kept})
	f, err := s.OpenFile(t.Context(), "disk.img")
	check(t, err)
	_, err = f.ReadAt(make([]byte, 1<<20), 1<<20)
	check(t, err)
	check(t, s.Close())
	s, _ = open(t, server.URL("a.ova"), Options{Cache: kept})
	same(t, s, b)
	if st := s.Stats(); st.Demanded > size-1<<20 {
		t.Errorf("what was there is fetched again: %+v", st)
	}
	check(t, s.Close())
	// An address that was signed anew leads to the same file, and what signs
	// it is written nowhere.
	kept = cache.Open(t.TempDir())
	for _, signature := range []string{"?X-Amz-Date=1&X-Amz-Signature=hunter2", "?X-Amz-Date=2&X-Amz-Signature=hunter3"} {
		s, _ = open(t, server.URL("a.ova")+signature, Options{Cache: kept})
		f, err = s.OpenFile(t.Context(), "disk.img")
		check(t, err)
		_, err = f.ReadAt(make([]byte, 1<<20), 1<<20)
		check(t, err)
		if st := s.Stats(); (st.Demanded > 0) == (signature[len(signature)-1] == '3') {
			t.Errorf("%s: %+v", signature, st)
		}
		check(t, s.Close())
	}
	all, err := kept.List(t.Context())
	check(t, err)
	for _, i := range all {
		if strings.Contains(i.Locator, "hunter") {
			t.Errorf("the cache tells the signature: %+v", i)
		}
	}
	if len(all) != 1 {
		t.Errorf("%d entries", len(all))
	}
	// From elsewhere nothing is taken that was not proved.
	kept = cache.Open(t.TempDir())
	s, _ = open(t, server.URL("a.ova"), Options{Cache: kept})
	f, err = s.OpenFile(t.Context(), "disk.img")
	check(t, err)
	_, err = f.ReadAt(make([]byte, 1<<20), 1<<20)
	check(t, err)
	check(t, s.Close())
	other := faultserver.New(t, dir)
	s, _ = open(t, other.URL("a.ova"), Options{Cache: kept})
	same(t, s, b)
	if st := s.Stats(); st.Demanded < size {
		t.Errorf("unproved bytes of another server are taken: %+v", st)
	}
}

func TestAltered(t *testing.T) {
	b := noise()
	dir := pack(t, true, "", map[string][]byte{"disk.img": b})
	server := faultserver.New(t, dir)
	server.Change(func(f *faultserver.Faults) { f.Flip, f.FlipAt = "a.ova", 2<<20 })
	kept := cache.Open(t.TempDir())
	s, failed := open(t, server.URL("a.ova"), Options{Cache: kept})
	_, err := s.Disk(t.Context(), "d")
	check(t, err)
	s.Hurry()
	if err := s.Fill(t.Context()); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("Fill: %v", err)
	}
	check(t, s.Close())
	if len(failed.all) != 1 || !errors.Is(failed.all[0], appliance.ErrAltered) || !strings.Contains(failed.all[0].Error(), "disk.img") {
		t.Errorf("told: %v", failed.all)
	}
	if all, err := kept.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it stays in the cache: %+v, %v", all, err)
	}
}

func TestChangedOnTheServer(t *testing.T) {
	server := faultserver.New(t, pack(t, true, "", map[string][]byte{"disk.img": noise()}))
	s, failed := open(t, server.URL("a.ova"), Options{})
	_, err := s.OpenFile(t.Context(), "disk.img")
	check(t, err)
	server.Change(func(f *faultserver.Faults) { f.Version = "2" })
	s.Hurry()
	if err := s.Fill(t.Context()); !errors.Is(err, appliance.ErrChanged) {
		t.Errorf("Fill: %v", err)
	}
	check(t, s.Close())
	if len(failed.all) != 1 || !errors.Is(failed.all[0], appliance.ErrChanged) {
		t.Errorf("told: %v", failed.all)
	}
}

type parts struct{ sums [][32]byte }

var errPart = fmt.Errorf("a part: %w", appliance.ErrAltered)

func (p *parts) Unit() int64 { return 1 << 20 }

func (p *parts) Prove(n int64, b []byte) error {
	if sha256.Sum256(b) != p.sums[n] {
		return errPart
	}
	return nil
}

// With digests of parts nothing is read that is not right.
func TestParts(t *testing.T) {
	b := noise()
	server := faultserver.New(t, pack(t, true, "", map[string][]byte{"disk.img": b}))
	proof := &parts{}
	for n := range size >> 20 {
		proof.sums = append(proof.sums, sha256.Sum256(b[n<<20:(n+1)<<20]))
	}
	opt := Options{Prover: func(name string, n int64) (lazy.Prover, error) {
		if name != "disk.img" || n != size {
			t.Errorf("asked for %s, %d bytes", name, n)
		}
		return proof, nil
	}}
	s, _ := open(t, server.URL("a.ova"), opt)
	same(t, s, b)
	if parts, whole := s.Proved(); !parts || !whole {
		t.Error("not proved by parts")
	}
	check(t, s.Fill(t.Context()))
	server.Change(func(f *faultserver.Faults) { f.Flip, f.FlipAt = "a.ova", 1536<<10 })
	s, _ = open(t, server.URL("a.ova"), opt)
	f, err := s.OpenFile(t.Context(), "disk.img")
	check(t, err)
	if n, err := f.ReadAt(make([]byte, 10), 1<<20); n != 0 || !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestNoManifest(t *testing.T) {
	b := noise()
	server := faultserver.New(t, pack(t, false, "", map[string][]byte{"disk.img": b}))
	for _, c := range []struct {
		faults faultserver.Faults
		kept   int
	}{{faultserver.Faults{}, 1}, {faultserver.Faults{NoValidators: true}, 0}} {
		server.Change(func(f *faultserver.Faults) { *f = c.faults })
		kept := cache.Open(t.TempDir())
		s, _ := open(t, server.URL("a.ova"), Options{Cache: kept})
		same(t, s, b)
		if parts, whole := s.Proved(); parts || whole {
			t.Error("proved by nothing")
		}
		check(t, s.Fill(t.Context()))
		check(t, s.Close())
		if all, err := kept.List(t.Context()); err != nil || len(all) != c.kept || c.kept == 1 && (all[0].Verified || all[0].Present != size) {
			t.Errorf("%+v, %v", all, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	packed := append([]byte("\x1f\x8b\x08"), make([]byte, 1000)...)
	dir := pack(t, true, "", map[string][]byte{"disk.img": packed})
	server := faultserver.New(t, dir)
	s, _ := open(t, server.URL("a.ova"), Options{})
	if _, err := s.Disk(t.Context(), "d"); !errors.Is(err, ErrPacked) {
		t.Errorf("compressed: %v", err)
	}
	if _, err := s.OpenFile(t.Context(), "../x"); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("outside: %v", err)
	}
	s, _ = open(t, filepath.Join(dir, "a.ova"), Options{})
	if _, err := s.OpenFile(t.Context(), "disk.img"); !errors.Is(err, appliance.ErrLocal) {
		t.Errorf("here: %v", err)
	}
	server = faultserver.New(t, pack(t, true, `ovf:size="5"`, map[string][]byte{"disk.img": noise()}))
	s, _ = open(t, server.URL("a.ova"), Options{})
	if _, err := s.OpenFile(t.Context(), "disk.img"); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("another size than the descriptor's: %v", err)
	}
}

// Where the cache can't be made, it is done without.
func TestNoCache(t *testing.T) {
	b := noise()
	server := faultserver.New(t, pack(t, true, "", map[string][]byte{"disk.img": b}))
	file := filepath.Join(t.TempDir(), "a file")
	check(t, os.WriteFile(file, nil, 0o600))
	var notes []string
	s, _ := open(t, server.URL("a.ova"), Options{Cache: cache.Open(file), Note: func(s string) { notes = append(notes, s) }})
	same(t, s, b)
	check(t, s.Fill(t.Context()))
	if len(notes) != 1 || !strings.Contains(notes[0], "nothing of disk.img is kept") {
		t.Errorf("notes %q", notes)
	}
}

// A disk that is larger than all the room there is is not begun.
func TestNoRoom(t *testing.T) {
	dir := pack(t, false, "", map[string][]byte{"disk.img": nil})
	if err := os.Truncate(filepath.Join(dir, "disk.img"), 8<<40); err != nil {
		t.Skip(err)
	}
	server := faultserver.New(t, dir)
	kept := cache.Open(t.TempDir())
	var notes []string
	s, _ := open(t, server.URL("a.ovf"), Options{Cache: kept, Note: func(s string) { notes = append(notes, s) }})
	if _, err := s.OpenFile(t.Context(), "disk.img"); !errors.Is(err, freespace.ErrTooLittle) || len(notes) != 1 {
		t.Errorf("%v, notes %q", err, notes)
	}
	if all, err := kept.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
