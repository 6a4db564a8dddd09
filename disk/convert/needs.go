package convert

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/codec"
)

// Space is what an image will take of the disk, in bytes.
type Space struct {
	// Stored is what has to be written.
	Stored int64
	// Cloned is what the system may copy from file to file: nothing where
	// the file system shares blocks, as much as it says elsewhere.
	Cloned int64
}

// Needs estimates how much room the image that Run makes of src by dst will
// take at the least, without reading more than src's tables and a few samples,
// so that a conversion that cannot end need not begin. Holes and recorded zeroes
// take nothing, nor does what is known only when it has been compressed. Of a
// disk.Stream nothing is known.
func Needs(ctx context.Context, src Source, dst disk.Writer) (s Space, err error) {
	img, ok := src.(disk.Image)
	if !ok {
		return s, nil
	}
	layout := dst.Layout()
	cloner, _ := dst.(disk.RangeWriter)
	unit := chunk.UnitSize(src)
	var data int64
	err = extents(ctx, img, func(e disk.Extent) {
		switch {
		case e.Kind == disk.Compressed && layout.Codec == disk.NoCodec:
			s.Stored += e.Length
		case e.Kind == disk.Compressed && layout.Unit == unit && codec.CanTranscode(e.Codec, layout.Codec):
			// Formats that count in sectors have padding.
			s.Stored += max(0, e.FileLength-disk.SectorSize)
		case clonable(e, cloner):
			s.Cloned += e.Length
		case e.Kind == disk.Data && layout.Codec == disk.NoCodec:
			data += e.Length
		}
	})
	if err != nil || data == 0 {
		return s, err
	}
	// Of what is stored as it is, much may be zeroes.
	places := samplePlaces(data)
	full, at, buf := 0, int64(0), make([]byte, minBlock)
	err = extents(ctx, img, func(e disk.Extent) {
		if e.Kind != disk.Data || clonable(e, cloner) {
			return
		}
		for len(places) > 0 && places[0] < at+e.Length {
			off := e.Offset + places[0] - at
			if n, _ := img.ReadAt(buf, off&^(minBlock-1)); !chunk.IsZero(buf[:n]) {
				full++
			}
			places = places[1:]
		}
		at += e.Length
	})
	if full < samples {
		full = max(0, full-samples/10) // chance is not to refuse anything
	}
	s.Stored += data / samples * int64(full)
	return s, err
}

func clonable(e disk.Extent, w disk.RangeWriter) bool {
	return e.Kind == disk.Data && w != nil && e.Length >= minClone && isLocal(e.File)
}

// extents goes over an image, and ends early where it is damaged: Run says that
// better.
func extents(ctx context.Context, img disk.Image, visit func(disk.Extent)) error {
	for off := int64(0); off < img.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := img.Extent(ctx, off)
		if err != nil || e.End() <= off {
			return nil
		}
		visit(e)
		off = e.End()
	}
	return nil
}

// samples is how many places are looked at.
const samples = 128

// samplePlaces chooses places in so many bytes, the same ones each time, and in
// order. They are not even: disks have patterns that are.
func samplePlaces(total int64) []int64 {
	r := rand.New(rand.NewPCG(uint64(total), samples))
	places := make([]int64, samples)
	for i := range places {
		places[i] = r.Int64N(total)
	}
	slices.Sort(places)
	return places
}
