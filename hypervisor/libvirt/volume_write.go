package libvirt

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/holes"
)

// Upload sends the volume's bytes.
func (v *volume) Upload(ctx context.Context) (hypervisor.VolumeWriter, error) {
	c, err := v.h.connect(ctx)
	if err != nil {
		return nil, err
	}
	const sparse = 1 // VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM
	w := &volumeWriter{ctx: ctx, v: v, sparse: v.folder}
	var flags uint32
	if w.sparse {
		flags = sparse
	}
	w.st, err = c.packets.open(ctx, procStorageVolumeUpload, transferArgs(v.vol, 0, 0, flags), 0)
	if w.sparse && is(err, golibvirt.ErrNoSupport, golibvirt.ErrInvalidArg, golibvirt.ErrOperationInvalid) {
		w.sparse = false
		w.st, err = c.packets.open(ctx, procStorageVolumeUpload, transferArgs(v.vol, 0, 0, 0), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("upload of volume %s: %w", v.spec.Name, known(err))
	}
	return w, nil
}

// abortLimit is how long giving up may take.
const abortLimit = 5 * time.Second

type volumeWriter struct {
	ctx    context.Context
	v      *volume
	st     *stream
	sparse bool
	sent   int64
	done   bool
	mu     sync.Mutex // for Abort, which may come from anywhere
}

func (w *volumeWriter) fail(err error) error {
	return fmt.Errorf("upload of volume %s, at byte %d: %w", w.v.spec.Name, w.sent, known(err))
}

// room keeps what is not a disk's from being written behind it.
func (w *volumeWriter) room(n int64) error {
	switch {
	case w.done:
		return fs.ErrClosed
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case n < 0 || w.sent > math.MaxInt64-n:
		return fmt.Errorf("%d bytes", n)
	case w.v.spec.Format == "raw" && w.sent+n > w.v.spec.CapacityBytes:
		return fmt.Errorf("%d bytes more are beyond its %d", n, w.v.spec.CapacityBytes)
	}
	return nil
}

func (w *volumeWriter) Write(b []byte) (int, error) {
	if err := w.room(int64(len(b))); err != nil {
		return 0, w.fail(err)
	}
	n, err := w.st.write(b)
	w.sent += int64(n)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

func (w *volumeWriter) Skip(n int64) error {
	if err := w.room(n); err != nil {
		return w.fail(err)
	}
	if w.sparse {
		if n == 0 {
			return nil
		}
		if err := w.st.hole(n); err != nil {
			return w.fail(err)
		}
		w.sent += n
		return nil
	}
	_, err := holes.Write(w, n)
	return err
}

func (w *volumeWriter) Close() error {
	if w.done {
		return nil
	}
	if w.v.spec.Format == "raw" && w.v.folder && w.sent < w.v.spec.CapacityBytes {
		if err := w.Skip(w.v.spec.CapacityBytes - w.sent); err != nil {
			w.Abort()
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return fs.ErrClosed
	}
	if err := w.st.finish(w.ctx); err != nil {
		w.give()
		return w.fail(err)
	}
	w.done = true
	return w.v.h.refresh(w.ctx, w.v.spec.Pool)
}

func (w *volumeWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.give()
	}
}

func (w *volumeWriter) give() {
	w.done = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortLimit)
	defer cancel()
	w.st.abort(ctx)
}
