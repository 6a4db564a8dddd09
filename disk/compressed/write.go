package compressed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/pipeline"
)

// CanWrite says whether NewWriter makes files of this method.
func (m Method) CanWrite() bool { return m == Gzip || m == Zstd }

// part is how much content goes into one gzip member or zstd frame.
const part = 1 << 20

// NewWriter makes a compressed file of what is written, and gives it to w; both
// end when the writer is closed. level is 1 to 9, 0 for the method's default.
// Parts of 1 MiB are compressed in parallel, each to a gzip member or a zstd
// frame of its own with its checksum, so that the file does not depend on the
// number of processors; zstd's tell how large their content is. Other methods
// than those give disk.ErrUnsupported. The end of ctx ends the work; so does a
// w that fails, and the next Write or Close says so.
func (m Method) NewWriter(ctx context.Context, w io.Writer, level int) (io.WriteCloser, error) {
	var pack func(*packer, []byte) error
	switch m {
	case Gzip:
		if level == 0 {
			level = 6
		}
		pack = func(p *packer, b []byte) (err error) {
			if p.gzip == nil {
				p.gzip, err = gzip.NewWriterLevel(&p.out, level)
			} else {
				p.gzip.Reset(&p.out)
			}
			if err == nil {
				_, err = p.gzip.Write(b)
			}
			if err == nil {
				err = p.gzip.Close()
			}
			return err
		}
	case Zstd:
		if level == 0 {
			level = 3
		}
		pack = func(p *packer, b []byte) (err error) {
			if p.zstd == nil {
				p.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true))
			}
			if err == nil {
				_, err = p.out.Write(p.zstd.EncodeAll(b, p.out.AvailableBuffer()))
			}
			return err
		}
	default:
		return nil, fmt.Errorf("files that are compressed by %v are not written: %w", m, disk.ErrUnsupported)
	}
	ctx, cancel := context.WithCancel(ctx)
	r, in := io.Pipe()
	z := &writer{in: in, cancel: cancel, ended: make(chan struct{})}
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	workers := runtime.GOMAXPROCS(0)
	slots := min(workers+2, 12)
	first := true
	go func() {
		defer close(z.ended)
		z.err = pipeline.Run(ctx, make([]packer, slots), workers,
			func(_ context.Context, p *packer) error {
				if p.in == nil {
					p.in = make([]byte, part)
				}
				n, err := io.ReadFull(r, p.in[:part])
				p.in = p.in[:n]
				// An empty file is one empty part.
				if err == io.ErrUnexpectedEOF || err == io.EOF && first {
					err = nil
				}
				first = false
				return err
			},
			func(_ context.Context, p *packer) error {
				p.out.Reset()
				return pack(p, p.in)
			},
			func(p *packer) error {
				_, err := w.Write(p.out.Bytes())
				return err
			})
		err := z.err
		if err == nil {
			err = io.ErrClosedPipe
		}
		r.CloseWithError(err)
	}()
	return z, nil
}

// packer is the memory for one part.
type packer struct {
	in   []byte
	out  bytes.Buffer
	gzip *gzip.Writer
	zstd *zstd.Encoder
}

type writer struct {
	in     *io.PipeWriter
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // good once ended is closed
}

// Write takes content.
func (z *writer) Write(b []byte) (int, error) { return z.in.Write(b) }

// Close waits until all is written.
func (z *writer) Close() error {
	z.in.Close()
	<-z.ended
	z.cancel()
	return z.err
}
