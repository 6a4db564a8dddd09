package convert

import (
	"context"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/codec"
)

// Suit completes the options for an image of a format that is to be made from
// src. Size is src's, up to a whole sector. Where opt leaves the unit open and
// the format can store src's compressed units as they are, the image gets the
// same unit and is compressed too; with plain set it is compressed only where
// opt says so.
func Suit(ctx context.Context, f disk.Format, src Source, opt disk.CreateOptions, plain bool) disk.CreateOptions {
	opt.Size = (src.Size() + disk.SectorSize - 1) &^ (disk.SectorSize - 1)
	unit := chunk.UnitSize(src)
	if unit == 0 || opt.Unit != 0 && opt.Unit != unit {
		return opt
	}
	from := src.(disk.Informer).Info().Codec
	like := opt
	like.Unit = unit
	if !plain {
		like.Compress = true
		if like.Codec == disk.NoCodec && from == disk.Zstd {
			like.Codec = from
		}
	}
	// What the format makes of that, an image that goes nowhere tells.
	w, err := f.Create(ctx, nowhere{}, like)
	if err != nil {
		return opt
	}
	if l := w.Layout(); l.Unit != unit || !codec.CanTranscode(from, l.Codec) {
		return opt
	}
	return like
}

// nowhere is an output that keeps nothing.
type nowhere struct{}

func (nowhere) Create(string) (disk.OutputFile, error) { return nowhere{}, nil }
func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (nowhere) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nowhere) Truncate(int64) error                   { return nil }
