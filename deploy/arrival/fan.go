package arrival

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
)

// fan is several writers of the same disk, each of which gets all of it; its
// beginning is kept.
type fan struct {
	writers []disk.Writer
	layout  disk.Layout
	first   *bootprobe.Beginning
	unit    []byte
}

// add adds one. They are all to store the disk in the same way.
func (f *fan) add(w disk.Writer) error {
	l := w.Layout()
	if len(f.writers) > 0 && l != f.layout {
		return fmt.Errorf("what comes once can't be written in two ways at once: %w", disk.ErrUnsupported)
	}
	f.writers, f.layout = append(f.writers, w), l
	return nil
}

// plainFan is a fan of writers that all take plain units.
type plainFan struct{ *fan }

// writer is the fan as a disk.Writer: a disk.PlainWriter where all are.
func (f *fan) writer() disk.Writer {
	for _, w := range f.writers {
		if _, ok := w.(disk.PlainWriter); !ok {
			return f
		}
	}
	return plainFan{f}
}

func (f *fan) each(do func(disk.Writer) error) error {
	for _, w := range f.writers {
		if err := do(w); err != nil {
			return err
		}
	}
	return nil
}

// WriteAt writes to all.
func (f *fan) WriteAt(b []byte, off int64) (int, error) {
	f.first.Take(b, off)
	err := f.each(func(w disk.Writer) error {
		_, err := w.WriteAt(b, off)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteZeroes writes to all.
func (f *fan) WriteZeroes(off, length int64) error {
	return f.each(func(w disk.Writer) error { return w.WriteZeroes(off, length) })
}

// WriteCompressed writes to all.
func (f *fan) WriteCompressed(off int64, stored []byte) error {
	if f.first.Wants(off) {
		if f.unit == nil {
			f.unit = make([]byte, f.layout.Unit)
		}
		n, _, err := codec.Decompress(f.layout.Codec, f.unit, stored)
		if err != nil {
			return errors.Join(fmt.Errorf("the compressed unit at byte %d can't be read: %w", off, disk.ErrCorrupt), err)
		}
		f.first.Take(f.unit[:n], off)
	}
	return f.each(func(w disk.Writer) error { return w.WriteCompressed(off, stored) })
}

// WritePlain writes to all.
func (f plainFan) WritePlain(unit []byte, off int64) error {
	f.first.Take(unit, off)
	return f.each(func(w disk.Writer) error { return w.(disk.PlainWriter).WritePlain(unit, off) })
}

// Layout is that of all.
func (f *fan) Layout() disk.Layout { return f.layout }

// Finish finishes all.
func (f *fan) Finish(ctx context.Context) error {
	return f.each(func(w disk.Writer) error { return w.Finish(ctx) })
}
