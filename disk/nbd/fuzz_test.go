package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// script is a connection over which a client has sent all that it will ever
// send.
type script struct {
	net.Conn // nil: nothing else is used
	in       io.Reader
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { return nil }
func (s *script) SetDeadline(time.Time) error { return nil }
func (s *script) RemoteAddr() net.Addr        { return &net.UnixAddr{} }

// zeroes is a disk that is empty, and written to in vain. It sees that nothing
// outside of it is asked for.
type zeroes struct {
	t    *testing.T
	size int64
}

func (z zeroes) inside(off, n int64) {
	if off < 0 || n < 0 || off > z.size || n > z.size-off {
		z.t.Errorf("%d bytes at %d of %d", n, off, z.size)
	}
}

func (z zeroes) Size() int64 { return z.size }

func (z zeroes) ReadAt(p []byte, off int64) (int, error) {
	z.inside(off, int64(len(p)))
	clear(p)
	return len(p), nil
}

func (z zeroes) WriteAt(p []byte, off int64) (int, error) {
	z.inside(off, int64(len(p)))
	return len(p), nil
}

func (z zeroes) Zero(off, n int64, _ bool) error {
	z.inside(off, n)
	return nil
}

func (zeroes) Sync() error { return nil }

// FuzzSession has a client say anything at all.
func FuzzSession(f *testing.F) {
	hello := []byte{0, 0, 0, 3}
	opt := func(code uint32, data ...byte) []byte {
		b := be.AppendUint32(be.AppendUint64(nil, optionMagic), code)
		return append(be.AppendUint32(b, uint32(len(data))), data...)
	}
	req := func(cmd, flags uint16, off uint64, n uint32, payload ...byte) []byte {
		b := be.AppendUint16(be.AppendUint32(nil, requestMagic), flags)
		b = be.AppendUint64(be.AppendUint16(b, cmd), 77)
		return append(be.AppendUint32(be.AppendUint64(b, off), n), payload...)
	}
	context := append([]byte{0, 0, 0, 1, 'r', 0, 0, 0, 1}, appendString(nil, allocationContext)...)
	intoR := slice(hello, opt(optStructuredReply), opt(optSetMeta, context...), opt(optGo, 0, 0, 0, 1, 'r', 0, 0))
	intoW := slice(hello, opt(optGo, 0, 0, 0, 1, 'w', 0, 1, 0, 3))
	f.Add(slice(hello, opt(optList), opt(optInfo, 0, 0, 0, 0, 0, 0), opt(optAbort)))
	f.Add(slice(intoR, req(cmdRead, 0, 0, 9999), req(cmdBlockStatus, 0, 512, 1<<32-1), req(cmdCache, 0, 1, 70000), req(cmdDisconnect, 0, 0, 0)))
	f.Add(slice(intoW, req(cmdWrite, cmdFUA, 3, 4, 1, 2, 3, 4), req(cmdTrim, 0, 0, 8), req(cmdWriteZeroes, cmdNoHole, 0, 8), req(cmdFlush, 0, 0, 0)))
	f.Add(slice([]byte{0, 0, 0, 1}, opt(optExportName, 'w'), req(cmdRead, 0, 1<<63, 1)))
	f.Add(slice(hello, opt(optStartTLS), opt(optListMeta, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Server{Exports: []Export{
			{Name: "r", Image: zeroes{t, 100_000}},
			{Name: "w", Image: zeroes{t, 777}, Target: zeroes{t, 777}},
		}}
		st, err := s.start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = newConn(st, &script{in: bytes.NewReader(in)}).serve(t.Context())
		if !st.memory.TryAcquire(defaultMemory) {
			t.Error("memory was not given back")
		}
	})
}

func slice(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// FuzzOptions reads the options' data; what is read is what is there.
func FuzzOptions(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03two\x00\x02\x00\x00\x00\x01"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05base:"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if name, wanted, ok := parseInfo(in); ok {
			b := be.AppendUint16(appendString(nil, name), uint16(len(wanted)))
			for _, w := range wanted {
				b = be.AppendUint16(b, w)
			}
			if !bytes.Equal(b, in) {
				t.Errorf("info %x, of %x", b, in)
			}
		}
		if name, queries, ok := parseMeta(in); ok {
			b := be.AppendUint32(appendString(nil, name), uint32(len(queries)))
			for _, q := range queries {
				b = appendString(b, q)
			}
			if !bytes.Equal(b, in) {
				t.Errorf("meta %x, of %x", b, in)
			}
		}
		if r, ok := parseRequest(in); ok {
			for _, writable := range []bool{true, false} {
				if r.check(4096, writable, true, true) == 0 && r.offset+uint64(r.length) > 4096 {
					t.Errorf("%+v passes", r)
				}
			}
		}
	})
}
