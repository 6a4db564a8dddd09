package lazy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const block = 512

// far is a source that counts, and fails as it is told.
type far struct {
	b       []byte
	mu      sync.Mutex
	times   map[int64]int // how often each block was fetched
	fetched atomic.Int64
	fail    atomic.Pointer[error]
	gate    chan struct{} // where set, each fetch waits for one
}

func newFar(n int) *far {
	s := &far{b: make([]byte, n), times: map[int64]int{}}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range s.b {
		s.b[i] = byte(r.Uint32())
	}
	return s
}

func (s *far) Size() int64 { return int64(len(s.b)) }

func (s *far) Fetch(ctx context.Context, b []byte, off int64) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.fail.Load(); err != nil {
		return *err
	}
	s.mu.Lock()
	for n := off / block; n*block < off+int64(len(b)); n++ {
		s.times[n]++
	}
	s.mu.Unlock()
	s.fetched.Add(int64(len(b)))
	copy(b, s.b[off:])
	return nil
}

// near is a store in memory.
type near struct {
	mu  sync.Mutex
	b   []byte
	has map[int64]bool
}

func newNear(n int) *near { return &near{b: make([]byte, n), has: map[int64]bool{}} }

func (s *near) Size() int64  { return int64(len(s.b)) }
func (s *near) Block() int64 { return block }

func (s *near) ReadAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.NewReader(s.b).ReadAt(b, off)
}

func (s *near) WriteAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(s.b[off:], b), nil
}

func (s *near) Has(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[n]
}

func (s *near) Add(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has[n] = true
}

// digests proves parts.
type digests struct {
	unit int64
	sums [][32]byte
}

func digestsOf(b []byte, unit int) *digests {
	d := &digests{unit: int64(unit)}
	for len(b) > 0 {
		n := min(unit, len(b))
		d.sums = append(d.sums, sha256.Sum256(b[:n]))
		b = b[n:]
	}
	return d
}

var errProof = errors.New("not these bytes")

func (d *digests) Unit() int64 { return d.unit }

func (d *digests) Prove(part int64, b []byte) error {
	if sha256.Sum256(b) != d.sums[part] {
		return errProof
	}
	return nil
}

func file(t testing.TB, src Source, store Store, opt Options) *File {
	t.Helper()
	f, err := New(context.Background(), src, store, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Whatever is read, in whatever order and by how many at once, with the
// background or without it: it is right, and nothing is fetched twice.
func TestReads(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(1, 40*block).Draw(r, "size")
		src, store := newFar(size), newNear(size)
		for range rapid.IntRange(0, 3).Draw(r, "there") {
			n := rapid.Int64Range(0, int64(size-1)/block).Draw(r, "block")
			copy(store.b[n*block:], src.b[n*block:min(int64(size), (n+1)*block)])
			store.has[n] = true
		}
		there := len(store.has)
		var opt Options
		if rapid.Bool().Draw(r, "proved") {
			opt.Prover = digestsOf(src.b, block*rapid.SampledFrom([]int{1, 4}).Draw(r, "unit"))
		}
		f, err := New(t.Context(), src, store, opt)
		if err != nil {
			r.Fatal(err)
		}
		defer f.Close()
		type read struct{ off, n int }
		var reads []read
		for range rapid.IntRange(1, 12).Draw(r, "reads") {
			reads = append(reads, read{rapid.IntRange(0, size).Draw(r, "off"), rapid.IntRange(0, 4*block).Draw(r, "n")})
		}
		var wg sync.WaitGroup
		for _, half := range [][]read{reads[:len(reads)/2], reads[len(reads)/2:]} {
			wg.Go(func() {
				for _, x := range half {
					p := make([]byte, x.n)
					n, err := f.ReadAt(p, int64(x.off))
					want := src.b[x.off:min(size, x.off+x.n)]
					if !bytes.Equal(p[:n], want) || (n < x.n) != (err == io.EOF) || err != nil && err != io.EOF {
						r.Errorf("read %d at %d of %d: %d, %v", x.n, x.off, size, n, err)
					}
				}
			})
		}
		if rapid.Bool().Draw(r, "fill") {
			f.Hurry()
			if err := f.Fill(t.Context()); err != nil {
				r.Error(err)
			}
			if s := f.Stats(); !f.Complete() || s.Present != s.Size || !bytes.Equal(store.b, src.b) {
				r.Errorf("filled, and not all is here: %+v", s)
			}
		}
		wg.Wait()
		f.Close()
		for n, times := range src.times {
			if times > 1 && (opt.Prover == nil || there == 0) {
				r.Errorf("block %d was fetched %d times", n, times)
			}
		}
	})
}

func TestUnprovedIsNotGiven(t *testing.T) {
	src := newFar(16 * block)
	proof := digestsOf(src.b, 4*block)
	src.b[9*block] ^= 1
	failed := make(chan error, 1)
	f := file(t, src, newNear(16*block), Options{Prover: proof, Failed: func(err error) { failed <- err }})
	p := make([]byte, 8*block)
	if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, src.b[:8*block]) {
		t.Errorf("what is right: %v", err)
	}
	if n, err := f.ReadAt(p[:1], 8*block); n != 0 || !errors.Is(err, errProof) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-failed; !errors.Is(err, errProof) {
		t.Error(err)
	}
	f.Hurry()
	if err := f.Fill(t.Context()); !errors.Is(err, errProof) {
		t.Errorf("Fill: %v", err)
	}
}

// What is wrong behind what is asked for is nobody's trouble before it is asked
// for.
func TestUnprovedAhead(t *testing.T) {
	src := newFar(64 * block)
	proof := digestsOf(src.b, block)
	src.b[20*block] ^= 1
	f := file(t, src, newNear(64*block), Options{Prover: proof, Failed: func(error) {}})
	p := make([]byte, 20*block)
	for n := range 20 {
		if _, err := f.ReadAt(p[n*block:(n+1)*block], int64(n*block)); err != nil {
			t.Fatalf("block %d: %v", n, err)
		}
	}
	if f.Stats().Demanded <= 20*block {
		t.Fatal("nothing was fetched ahead")
	}
	if _, err := f.ReadAt(p[:block], 20*block); !errors.Is(err, errProof) {
		t.Errorf("%v", err)
	}
}

// What the background finds to be wrong is wrong for good, and not another time.
func TestUnprovedInTheBackground(t *testing.T) {
	src := newFar(16 * block)
	proof := digestsOf(src.b, 4*block)
	src.b[9*block] ^= 1
	failed := make(chan error, 1)
	f := file(t, src, newNear(16*block), Options{Prover: proof, Failed: func(err error) { failed <- err },
		Passing: func(error) bool { return true }, Pause: time.Millisecond})
	f.Hurry()
	if err := f.Fill(t.Context()); !errors.Is(err, errProof) {
		t.Errorf("Fill: %v", err)
	}
	if err := <-failed; !errors.Is(err, errProof) {
		t.Error(err)
	}
}

// The background waits for a source that has gone, and whoever reads what is
// here does not notice.
func TestSourceThatGoesAndComesBack(t *testing.T) {
	src := newFar(4 << 20)
	away := errors.New("away")
	waiting := make(chan error, 10)
	f := file(t, src, newNear(4<<20), Options{
		Passing: func(err error) bool { return errors.Is(err, away) }, Pause: time.Millisecond,
		Waiting: func(err error) { waiting <- err }, Failed: func(err error) { t.Errorf("failed: %v", err) },
	})
	if _, err := f.ReadAt(make([]byte, block), 0); err != nil {
		t.Fatal(err)
	}
	src.fail.Store(&away)
	f.Hurry()
	done := make(chan error, 1)
	go func() { done <- f.Fill(t.Context()) }()
	if err := <-waiting; !errors.Is(err, away) {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, block), 0); err != nil {
		t.Errorf("what is here: %v", err)
	}
	src.fail.Store(nil)
	if err := <-done; err != nil || !f.Complete() {
		t.Errorf("Fill: %v", err)
	}
	for err := range waiting {
		if err == nil {
			break
		}
	}
}

func TestReaderThatGetsNothing(t *testing.T) {
	src := newFar(16 * block)
	away := errors.New("away")
	src.fail.Store(&away)
	failed := make(chan error, 1)
	f := file(t, src, newNear(16*block), Options{Passing: func(error) bool { return true }, Failed: func(err error) { failed <- err }})
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, away) {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, away) {
		t.Error(err)
	}
}

// Readers go before the background, and what follows them before the rest.
func TestOrder(t *testing.T) {
	src := newFar(8 << 20)
	f := file(t, src, newNear(8<<20), Options{InFlight: 1})
	if _, err := f.ReadAt(make([]byte, block), 4<<20); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	from, end := f.next()
	if from*f.unit != 4<<20+block || end <= from {
		t.Errorf("next is %d to %d", from*f.unit, end*f.unit)
	}
	// Nobody has been quiet yet: an eighth of what was demanded is enough.
	g := f.opt.Group
	if g.filled = g.demanded; f.free() {
		t.Error("the background may take the reader's network")
	}
	// A while without waiting lets it have a little more, and all when readers
	// have got through their beginning.
	g.waited, g.filled = time.Now().Add(-time.Minute), g.demanded/4
	if !f.free() {
		t.Error("where it is quiet the background may not take a quarter")
	}
	if g.filled = g.demanded; f.free() {
		t.Error("where it is quiet the background may take all before the reader has begun")
	}
	f.mu.Unlock()
	g.Started()
	f.mu.Lock()
	if !f.free() {
		t.Error("where it is quiet the background may not go though the reader has begun")
	}
	if g.waited = time.Now(); f.free() {
		t.Error("the background may go though it is not quiet")
	}
	g.eager = true
	if !f.free() {
		t.Error("the background may not go though it was told to")
	}
	if g.waiters = 1; f.free() {
		t.Error("the background goes before a reader")
	}
	g.waiters = 0
	f.mu.Unlock()
	// From where the last demand was to the end, then from the start.
	f.mu.Lock()
	f.last = f.units
	if from, _ = f.next(); from != 0 {
		t.Errorf("the rest begins at unit %d", from)
	}
	f.mu.Unlock()
}

// crowd is a source that gives nothing before so many ask at once.
type crowd struct {
	*far
	mu     sync.Mutex
	asking int
	want   int
	all    chan struct{}
}

func (s *crowd) Fetch(ctx context.Context, b []byte, off int64) error {
	s.mu.Lock()
	if s.asking++; s.asking == s.want {
		close(s.all)
	}
	s.mu.Unlock()
	select {
	case <-s.all:
		return s.far.Fetch(ctx, b, off)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Several ranges are on their way at once, of the background's and of readers'.
func TestSeveralInFlight(t *testing.T) {
	src := &crowd{far: newFar(8 << 20), want: 3, all: make(chan struct{})}
	f := file(t, src, newNear(8<<20), Options{InFlight: 3})
	f.Hurry()
	if err := f.Fill(t.Context()); err != nil || !f.Complete() {
		t.Errorf("%v", err)
	}
	src = &crowd{far: newFar(8 << 20), want: 4, all: make(chan struct{})}
	f = file(t, src, newNear(8<<20), Options{})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			if _, err := f.ReadAt(make([]byte, block), int64(n)<<20); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Reading on is fetched ahead, with at most half of what was read in vain.
func TestAhead(t *testing.T) {
	src := newFar(8 << 20)
	f := file(t, src, newNear(8<<20), Options{})
	p := make([]byte, 4<<10)
	for off := int64(0); off < 2<<20; off += int64(len(p)) {
		if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, src.b[off:off+int64(len(p))]) {
			t.Fatal(err)
		}
	}
	if s := f.Stats(); s.Demanded > s.Read*3/2+block || s.Demanded <= s.Read {
		t.Errorf("%+v", s)
	}
	// Reads here and there fetch nothing ahead.
	f = file(t, src, newNear(8<<20), Options{})
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		if _, err := f.ReadAt(p[:block], r.Int64N(8<<20/block/4)*4*block); err != nil {
			t.Fatal(err)
		}
	}
	if s := f.Stats(); s.Demanded > s.Read {
		t.Errorf("here and there: %+v", s)
	}
}

func TestPrefix(t *testing.T) {
	src := newFar(8 * block)
	src.gate = make(chan struct{})
	f := file(t, src, newNear(8*block), Options{InFlight: 1})
	f.Hurry()
	done := make(chan error, 1)
	go func() { done <- f.Fill(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := f.Prefix(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("there is nothing yet: %v", err)
	}
	close(src.gate)
	var at int64
	for at < f.Size() {
		to, err := f.Prefix(t.Context(), at)
		if err != nil || to <= at {
			t.Fatal(to, err)
		}
		at = to
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	src := newFar(8 * block)
	src.gate = make(chan struct{})
	f := file(t, src, newNear(8*block), Options{Failed: func(err error) { t.Errorf("failed: %v", err) }})
	time.AfterFunc(5*time.Millisecond, func() { f.Close() })
	if _, err := f.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("read")
	}
	if err := f.Fill(t.Context()); err == nil {
		t.Error("filled")
	}
}

func TestMisfits(t *testing.T) {
	src := newFar(8 * block)
	if _, err := New(t.Context(), src, newNear(7*block), Options{}); err == nil {
		t.Error("a store of another size")
	}
	if _, err := New(t.Context(), src, newNear(8*block), Options{Prover: &digests{unit: 100}}); err == nil {
		t.Error("parts that are no blocks")
	}
}
