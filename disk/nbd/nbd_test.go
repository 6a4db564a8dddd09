package nbd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/nbd"
)

// memory is a disk of blocks, each of one kind, that can be written to.
type memory struct {
	mu    sync.RWMutex
	b     []byte
	kinds []disk.Kind
	block int64
	syncs int
	// broken is where reads fail, -1 for nowhere.
	broken int64
}

var errBroken = errors.New("cannot be read: /secret/path")

func newMemory(size, block int64, seed uint64) *memory {
	m := &memory{b: make([]byte, size), block: block, broken: -1}
	r := rand.New(rand.NewPCG(seed, 1))
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	noise := rand.NewChaCha8(key)
	for off := int64(0); off < size; off += block {
		k := disk.Kind(r.IntN(4))
		m.kinds = append(m.kinds, k)
		if k == disk.Data || k == disk.Compressed {
			_, _ = noise.Read(m.b[off:min(off+block, size)])
		}
	}
	return m
}

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.broken >= off && m.broken < off+int64(len(p)) {
		return 0, errBroken
	}
	n := copy(p, m.b[min(off, m.Size()):])
	if off+int64(n) == m.Size() {
		return n, io.EOF // as io.ReaderAt allows
	}
	return n, nil
}

func (m *memory) Extent(_ context.Context, off int64) (disk.Extent, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off >= m.Size() {
		return disk.Extent{}, io.EOF
	}
	i := off / m.block
	e := disk.Extent{Offset: off, Kind: m.kinds[i]}
	if e.Kind == disk.Compressed {
		e.Offset = i * m.block
	}
	e.Length = min((i+1)*m.block, m.Size()) - e.Offset
	return e, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark(off, int64(len(p)), disk.Data)
	return copy(m.b[off:], p), nil
}

func (m *memory) Zero(off, length int64, hole bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.b[off : off+length])
	k := disk.Zero
	if hole {
		k = disk.Hole
	}
	// Blocks that are zeroed in part stay what they were.
	first, end := (off+m.block-1)/m.block, (off+length)/m.block
	for i := first; i < end; i++ {
		m.kinds[i] = k
	}
	return nil
}

func (m *memory) mark(off, length int64, k disk.Kind) {
	for i := off / m.block; i*m.block < off+length; i++ {
		m.kinds[i] = k
	}
}

// snapshot gives what is on the disk now, and how often it was flushed.
func (m *memory) snapshot() ([]byte, int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return bytes.Clone(m.b), m.syncs
}

func (m *memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncs++
	return nil
}

// serve starts a server on a socket and gives the socket's path. The server
// ends with the test, and must end well.
func serve(t testing.TB, s *nbd.Server) string {
	t.Helper()
	l, err := nbd.Listen(t.Context(), "unix:"+filepath.Join(t.TempDir(), "nbd"))
	if err != nil {
		t.Fatal(err)
	}
	return start(t, s, l)
}

func start(t testing.TB, s *nbd.Server, l net.Listener) string {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func TestReadsAndExtents(t *testing.T) {
	m := newMemory(5<<20+777, 64<<10, 3)
	socket := serve(t, &nbd.Server{Exports: []nbd.Export{{Name: "a", Image: m}}})
	for _, structured := range []bool{false, true} {
		c := must[*client](t)(dial("unix", socket, "a", structured))
		if c.size != uint64(m.Size()) {
			t.Errorf("size %d", c.size)
		}
		if want := uint16(1 | 2 | 4 | 8 | 1<<8 | 1<<10); c.flags&^(1<<7) != want || c.flags&(1<<7) != 0 != structured {
			t.Errorf("flags %#x, want %#x", c.flags, want)
		}
		res := must[result](t)(c.do(0, 0, 0, uint32(m.Size()), nil))
		if !bytes.Equal(res.data, m.b) {
			t.Error("the whole disk differs")
		}
		if structured {
			holes := 0
			for _, p := range res.pieces {
				if p.kind == 2 {
					holes += p.length
				}
			}
			want := 0
			for i, k := range m.kinds {
				if k == disk.Hole || k == disk.Zero {
					want += int(min(m.block, m.Size()-int64(i)*m.block))
				}
			}
			if holes != want {
				t.Errorf("%d bytes came as holes, want %d", holes, want)
			}
			res = must[result](t)(c.do(0, 1<<2, 100, 3<<20, nil))
			if len(res.pieces) != 1 || !bytes.Equal(res.data, m.b[100:100+3<<20]) {
				t.Errorf("DF: %d pieces", len(res.pieces))
			}
		}
		// Nothing goes on after the client has taken its leave.
		if err := c.send(2, 0, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c.c); err != nil || len(b) != 0 {
			t.Errorf("after DISC: %x, %v", b, err)
		}
	}
}

// TestModel does what comes to mind to a disk, by the protocol, and to a copy
// in memory.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(1, 300<<10).Draw(rt, "size")
		block := rapid.SampledFrom([]int64{512, 4096, 5000, 64 << 10}).Draw(rt, "block")
		m := newMemory(size, block, rapid.Uint64().Draw(rt, "seed"))
		model := bytes.Clone(m.b)
		c, stop := pipe(rt, &nbd.Server{Exports: []nbd.Export{{Name: "x", Image: m, Target: m}}}, "x", rapid.Bool().Draw(rt, "structured"))
		defer stop()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			off := rapid.Int64Range(0, size).Draw(rt, "offset")
			n := rapid.Int64Range(0, size-off).Draw(rt, "length")
			fua := uint16(rapid.IntRange(0, 1).Draw(rt, "fua"))
			switch cmd := rapid.SampledFrom([]uint16{0, 1, 3, 4, 5, 6, 7}).Draw(rt, "command"); cmd {
			case 0:
				res := must[result](rt)(c.do(0, 0, uint64(off), uint32(n), nil))
				if !bytes.Equal(res.data, model[off:off+n]) {
					rt.Fatalf("read of %d at %d differs", n, off)
				}
			case 1:
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(off) + byte(i)
				}
				must[result](rt)(c.do(1, fua, uint64(off), uint32(n), b))
				copy(model[off:], b)
			case 3:
				must[result](rt)(c.do(3, 0, 0, 0, nil))
			case 4, 6:
				must[result](rt)(c.do(cmd, fua, uint64(off), uint32(n), nil))
				clear(model[off : off+n])
			case 5:
				must[result](rt)(c.do(5, 0, uint64(off), uint32(n), nil))
			case 7:
				if c.simple || n == 0 {
					continue
				}
				checkStatus(rt, c, model, off, n)
			}
		}
	})
}

// checkStatus asks what is in a range and wants what is said to be zeroes to be
// zeroes.
func checkStatus(t tester, c *client, model []byte, off, n int64) {
	t.Helper()
	res := must[result](t)(c.do(7, 0, uint64(off), uint32(n), nil))
	if len(res.extents) == 0 {
		t.Fatalf("no extents")
	}
	at := off
	for i, e := range res.extents {
		if i > 0 && e.flags == res.extents[i-1].flags {
			t.Errorf("two extents of the same state %d in a row", e.flags)
		}
		if at+int64(e.length) > off+n || e.length == 0 {
			t.Fatalf("extent of %d at %d, asked for %d at %d", e.length, at, n, off)
		}
		if e.flags&2 != 0 && len(bytes.Trim(model[at:at+int64(e.length)], "\x00")) != 0 {
			t.Fatalf("%d bytes at %d are no zeroes", e.length, at)
		}
		at += int64(e.length)
	}
	if at != off+n {
		t.Errorf("extents end at %d, not %d", at, off+n)
	}
	one := must[result](t)(c.do(7, 1<<3, uint64(off), uint32(n), nil))
	if len(one.extents) != 1 || one.extents[0] != res.extents[0] {
		t.Errorf("REQ_ONE: %v, want %v", one.extents, res.extents[0])
	}
}

// pipe connects to a server that has only this client.
func pipe(t tester, s *nbd.Server, export string, structured bool) (*client, func()) {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	c, err := dial("tcp", l.Addr().String(), export, structured)
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	if err != nil {
		stop()
		t.Fatal(err)
	}
	return c, func() { c.c.Close(); stop() }
}

func TestRefusals(t *testing.T) {
	m := newMemory(1<<20, 4096, 1)
	w := newMemory(1<<20, 4096, 2)
	s := &nbd.Server{Exports: []nbd.Export{{Name: "r", Image: m}, {Name: "w", Image: w, Target: w}}}
	socket := serve(t, s)
	for _, tc := range []struct {
		name, export string
		cmd, flags   uint16
		off          uint64
		n            uint32
		payload      int
		want         errno
	}{
		{"read past the end", "r", 0, 0, 1<<20 - 1, 2, 0, 22},
		{"read far past the end", "r", 0, 0, 1<<64 - 1, 2, 0, 22},
		{"read too much", "w", 0, 0, 0, 32<<20 + 1, 0, 22},
		{"write to what is read-only", "r", 1, 0, 0, 512, 512, 1},
		{"write of nothing to what is read-only", "r", 1, 0, 0, 0, 0, 1},
		{"trim what is read-only", "r", 4, 0, 0, 512, 0, 1},
		{"zero what is read-only", "r", 6, 0, 0, 512, 0, 1},
		{"write past the end", "w", 1, 0, 1 << 20, 512, 512, 28},
		{"zero past the end", "w", 6, 0, 1<<20 - 1, 2, 0, 28},
		{"trim past the end", "w", 4, 0, 1<<20 - 1, 2, 0, 22},
		{"cache past the end", "w", 5, 0, 1<<20 - 1, 2, 0, 22},
		{"status past the end", "w", 7, 0, 1<<20 - 1, 2, 0, 22},
		{"status of nothing", "w", 7, 0, 0, 0, 0, 22},
		{"flush with a range", "w", 3, 0, 0, 1, 0, 22},
		{"unknown command", "w", 99, 0, 0, 0, 0, 22},
		{"unknown flag", "w", 0, 1 << 9, 0, 1, 0, 22},
		{"flag of another command", "w", 1, 1 << 2, 0, 1, 1, 22},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := must[*client](t)(dial("unix", socket, tc.export, true))
			defer c.c.Close()
			_, err := c.do(tc.cmd, tc.flags, tc.off, tc.n, make([]byte, tc.payload))
			var got errno
			if !errors.As(err, &got) || got != tc.want {
				t.Errorf("%v, want errno %d", err, tc.want)
			}
			// The connection is in step still.
			res := must[result](t)(c.do(0, 0, 0, 4096, nil))
			img := map[string]*memory{"r": m, "w": w}[tc.export]
			if !bytes.Equal(res.data, img.b[:4096]) {
				t.Error("a read after it differs")
			}
		})
	}
}

func TestFaultsOfImages(t *testing.T) {
	m := newMemory(4<<20, 64<<10, 1)
	for i := range m.kinds {
		m.kinds[i] = disk.Data
	}
	m.broken = 3<<20 + 5
	var mu sync.Mutex
	var told []string
	s := &nbd.Server{Exports: []nbd.Export{{Name: "m", Image: m}}, OnError: func(export string, off, n int64, err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s %d %d %t", export, off, n, errors.Is(err, errBroken)))
	}}
	socket := serve(t, s)
	for _, structured := range []bool{false, true} {
		told = nil
		c := must[*client](t)(dial("unix", socket, "m", structured))
		_, err := c.do(0, 0, 1<<20, 3<<20, nil)
		if err != errno(5) {
			t.Errorf("structured %v: %v, want EIO", structured, err)
		}
		_, err = c.do(5, 0, 1<<20, 3<<20, nil)
		if err != errno(5) {
			t.Errorf("CACHE: %v, want EIO", err)
		}
		must[result](t)(c.do(0, 0, 0, 1<<20, nil))
		c.c.Close()
		mu.Lock()
		want := []string{"m 1048576 3145728 true", "m 1048576 3145728 true"}
		if structured {
			want[0] = "m 3145728 1048576 true"
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		mu.Unlock()
	}
}

func TestOptions(t *testing.T) {
	m := newMemory(12345, 4096, 1)
	s := &nbd.Server{Exports: []nbd.Export{{Name: "one", Description: "the first", Image: m}, {Name: "two", Image: newMemory(99, 4096, 1)}}}
	socket := serve(t, s)
	connect := func() *client { return must[*client](t)(hello(must[net.Conn](t)(net.Dial("unix", socket)))) }
	c := connect()
	defer c.c.Close()
	for _, tc := range []struct {
		name string
		code uint32
		data string
		want string
	}{
		{"list", 3, "", `[2 "\x00\x00\x00\x03onethe first"] [2 "\x00\x00\x00\x03two"] [1 ""]`},
		{"list with data", 3, "x", `[2147483651 "this option has no data"]`},
		{"info", 6, "\x00\x00\x00\x03two\x00\x00", `[3 "\x00\x00\x00\x00\x00\x00\x00\x00\x00c\x05\x0f"] [1 ""]`},
		{"info of the default", 6, "\x00\x00\x00\x00\x00\x03\x00\x01\x00\x02\x00\x03",
			`[3 "\x00\x00\x00\x00\x00\x00\x00\x0009\x05\x0f"] [3 "\x00\x01one"] [3 "\x00\x02the first"] [3 "\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00\x02\x00\x00\x00"] [1 ""]`},
		{"info of what is not there", 6, "\x00\x00\x00\x01x\x00\x00", `[2147483654 "no such export"]`},
		{"info cut", 6, "\x00\x00\x00\x03tw", `[2147483651 "malformed"]`},
		{"info with too many requests", 6, "\x00\x00\x00\x03two\x00\x09\x00\x01", `[2147483651 "malformed"]`},
		{"a name longer than all", 7, "\xff\xff\xff\xfftwo\x00\x00", `[2147483651 "malformed"]`},
		{"context before structured replies", 10, "\x00\x00\x00\x00\x00\x00\x00\x00", `[2147483651 "structured replies come first"]`},
		{"structured replies with data", 8, "x", `[2147483651 "this option has no data"]`},
		{"structured replies", 8, "", `[1 ""]`},
		{"all contexts", 9, "\x00\x00\x00\x00\x00\x00\x00\x00", `[4 "\x00\x00\x00\x00base:allocation"] [1 ""]`},
		{"contexts of a namespace", 9, "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05base:", `[4 "\x00\x00\x00\x00base:allocation"] [1 ""]`},
		{"no such context", 10, "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x06qemu:x", `[1 ""]`},
		{"set the context", 10, "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0fbase:allocation", `[4 "\x00\x00\x00\x01base:allocation"] [1 ""]`},
		{"context of no export", 10, "\x00\x00\x00\x01z\x00\x00\x00\x00", `[2147483654 "no such export"]`},
		{"more queries than there are", 10, "\x00\x00\x00\x00\xff\xff\xff\xff", `[2147483651 "malformed"]`},
		{"TLS that is not there", 5, "", `[2147483650 "this server has no TLS"]`},
		{"unknown", 4242, "whatever", `[2147483649 ""]`},
		{"too long", 4242, strings.Repeat("x", 100<<10), `[2147483657 ""]`},
		{"abort", 2, "", `[1 ""]`},
	} {
		if tc.name == "too long" { // what comes next is answered as usual
			if err := write(c, tc.code, tc.data); err != nil {
				t.Fatal(err)
			}
			r := must[optReply](t)(readReply(c))
			if r.kind != 2147483657 {
				t.Errorf("%s: %v", tc.name, r)
			}
			continue
		}
		r, err := c.option(tc.code, []byte(tc.data))
		var got []string
		for _, x := range r {
			got = append(got, fmt.Sprintf("[%d %q]", x.kind, x.data))
		}
		if g := strings.Join(got, " "); err != nil || g != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.name, g, err, tc.want)
		}
	}

	// EXPORT_NAME, as old clients do: size, flags, 124 zeroes.
	nc := must[net.Conn](t)(net.Dial("unix", socket))
	defer nc.Close()
	b := make([]byte, 18)
	must[int](t)(io.ReadFull(nc, b))
	must[int](t)(nc.Write([]byte("\x00\x00\x00\x01IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x03one")))
	b = make([]byte, 134)
	must[int](t)(io.ReadFull(nc, b))
	if be.Uint64(b) != 12345 || !bytes.Equal(b[10:], make([]byte, 124)) {
		t.Errorf("EXPORT_NAME: %x", b)
	}
	old := &client{c: nc, simple: true}
	if res := must[result](t)(old.do(0, 0, 5, 100, nil)); !bytes.Equal(res.data, m.b[5:105]) {
		t.Error("a read after EXPORT_NAME differs")
	}
	if _, err := old.do(7, 0, 0, 100, nil); err != errno(22) {
		t.Errorf("status without the context: %v", err)
	}

	// The context holds for the export that it was chosen for only.
	other := connect()
	defer other.c.Close()
	if err := errors.Join(other.negotiate("one"), other.goTo("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.do(7, 0, 0, 50, nil); err != errno(22) {
		t.Errorf("status by another export's context: %v", err)
	}
}

func write(c *client, code uint32, data string) error {
	b := append([]byte("IHAVEOPT"), be.AppendUint32(nil, code)...)
	_, err := c.c.Write(append(be.AppendUint32(b, uint32(len(data))), data...))
	return err
}

func readReply(c *client) (optReply, error) {
	head := make([]byte, 20)
	if _, err := io.ReadFull(c.c, head); err != nil {
		return optReply{}, err
	}
	return optReply{kind: be.Uint32(head[12:])}, nil
}

// blocking is an image whose reads wait until they are let go, or given up.
type blocking struct {
	*memory
	began, ended chan struct{}
	let          chan struct{}
}

func (b *blocking) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	b.began <- struct{}{}
	defer func() { b.ended <- struct{}{} }()
	select {
	case <-b.let:
		return b.ReadAt(p, off)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func newBlocking() *blocking {
	return &blocking{newMemory(1<<20, 4096, 1), make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{})}
}

func TestClientThatVanishes(t *testing.T) {
	m := newBlocking()
	s := &nbd.Server{Exports: []nbd.Export{{Name: "m", Image: m}}, OnError: func(_ string, _, _ int64, err error) {
		t.Errorf("the image is not to blame: %v", err)
	}}
	socket := serve(t, s)
	c := must[*client](t)(dial("unix", socket, "m", false))
	for range 3 {
		if err := c.send(0, 0, 0, 512, nil); err != nil {
			t.Fatal(err)
		}
		<-m.began
	}
	c.c.Close()
	for range 3 {
		<-m.ended
	}
	// Others are served as before.
	close(m.let)
	c = must[*client](t)(dial("unix", socket, "m", false))
	defer c.c.Close()
	must[result](t)(c.do(0, 0, 0, 512, nil))
}

func TestRequestsAtOnce(t *testing.T) {
	m := newBlocking()
	const most = 5
	socket := serve(t, &nbd.Server{Exports: []nbd.Export{{Name: "m", Image: m}}, MaxInFlight: most})
	c := must[*client](t)(dial("unix", socket, "m", false))
	defer c.c.Close()
	for i := range 3 * most {
		if err := c.send(0, 0, uint64(i), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range most {
		<-m.began
	}
	select {
	case <-m.began:
		t.Errorf("more than %d reads at once", most)
	case <-time.After(20 * time.Millisecond):
	}
	close(m.let)
	seen := map[uint64]bool{}
	for range 3 * most {
		b := make([]byte, 17)
		must[int](t)(io.ReadFull(c.c, b))
		cookie := be.Uint64(b[8:])
		if seen[cookie] || b[16] != m.b[cookie-1] {
			t.Errorf("reply %x", b)
		}
		seen[cookie] = true
	}
}

// TestMemory has clients that read nothing hold all the memory there is: others
// are served nevertheless.
func TestMemory(t *testing.T) {
	m := newMemory(32<<20, 1<<20, 1)
	socket := serve(t, &nbd.Server{Exports: []nbd.Export{{Name: "m", Image: m}}, MaxMemory: 32 << 20, StallTimeout: 50 * time.Millisecond})
	for range 3 {
		c := must[*client](t)(dial("unix", socket, "m", false))
		defer c.c.Close()
		if err := c.send(0, 0, 0, 32<<20, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := must[*client](t)(dial("unix", socket, "m", false))
	defer c.c.Close()
	if res := must[result](t)(c.do(0, 0, 1<<20, 4096, nil)); !bytes.Equal(res.data, m.b[1<<20:1<<20+4096]) {
		t.Error("the read differs")
	}
}

func TestManyClients(t *testing.T) {
	m := newMemory(8<<20, 64<<10, 9)
	want := sha256.Sum256(m.b)
	socket := serve(t, &nbd.Server{Exports: []nbd.Export{{Name: "m", Image: m}}, MaxClients: 4})
	var wg sync.WaitGroup
	var ready, refused sync.WaitGroup
	ready.Add(4)
	refused.Add(4)
	for i := range 4 {
		wg.Go(func() {
			c, err := dial("unix", socket, "m", i%2 == 0)
			ready.Done()
			if err != nil {
				refused.Done()
				t.Error(err)
				return
			}
			defer c.c.Close()
			ready.Wait()
			if i == 0 { // the fifth is one too many
				if _, err := dial("unix", socket, "m", false); err == nil {
					t.Error("a fifth client was served")
				}
			}
			refused.Done()
			refused.Wait()
			h := sha256.New()
			for off := 0; off < len(m.b); off += 100_000 {
				res, err := c.do(0, 0, uint64(off), uint32(min(100_000, len(m.b)-off)), nil)
				if err != nil {
					t.Error(err)
					return
				}
				h.Write(res.data)
			}
			if [32]byte(h.Sum(nil)) != want {
				t.Errorf("client %d read something else", i)
			}
		})
	}
	wg.Wait()
}

func TestServeRefuses(t *testing.T) {
	m := newMemory(10, 512, 1)
	for name, exports := range map[string][]nbd.Export{
		"no image":  {{Name: "a"}},
		"twice":     {{Name: "a", Image: m}, {Name: "a", Image: m}},
		"long name": {{Name: strings.Repeat("a", 5000), Image: m}},
	} {
		l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
		if err := (&nbd.Server{Exports: exports}).Serve(t.Context(), l); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener is open still: %v", name, err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := must[net.Listener](t)(nbd.Listen(t.Context(), "unix:"+path))
	if fi := must[os.FileInfo](t)(os.Lstat(path)); fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	if _, err := nbd.Listen(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("twice at one socket: %v", err)
	}
	// A socket that was left behind is replaced; closing removes only what
	// is its own.
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	other := must[net.Listener](t)(nbd.Listen(t.Context(), "unix:"+path))
	l.Close()
	must[os.FileInfo](t)(os.Lstat(path))
	other.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there still: %v", err)
	}
	again := must[net.Listener](t)(nbd.Listen(t.Context(), "unix:"+path+"2"))
	again.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"unix:", "unix:" + file, "unix:/nowhere/at/all", "tcp:no port", "udp:x:1", "", "unix:" + filepath.Join(t.TempDir(), strings.Repeat("x", 200))} {
		if l, err := nbd.Listen(t.Context(), bad); err == nil {
			l.Close()
			t.Errorf("%q: no error", bad)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "x" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestURI(t *testing.T) {
	for _, tc := range []struct {
		addr   net.Addr
		export string
		tls    bool
		want   string
	}{
		{&net.UnixAddr{Name: "/run/a b&c/nbd", Net: "unix"}, "disk 1/ä", false, "nbd+unix:///disk%201/%C3%A4?socket=/run/a%20b%26c/nbd"},
		{&net.UnixAddr{Name: "/s", Net: "unix"}, "", true, "nbds+unix:///?socket=/s"},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10809}, "a", false, "nbd://127.0.0.1:10809/a"},
		{&net.TCPAddr{IP: net.IPv6zero, Port: 1}, "a#b", true, "nbds://localhost:1/a%23b"},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, "", false, "nbd://[::1]:1/"},
	} {
		if got := nbd.URI(tc.addr, tc.export, tc.tls); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}
