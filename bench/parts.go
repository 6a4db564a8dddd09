package main

import (
	"bytes"
	stdflate "compress/flate"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/deflate"
	"github.com/ovation-project/ovation/internal/inflate"
)

// part does what is measured in a process of its own.
func part(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "inflate":
		return inflateAll(ctx, args[1])
	case len(args) == 2 && args[0] == "deflate":
		return deflateAll(ctx, args[1])
	case len(args) == 1 && args[0] == "vsphere":
		return simulate()
	case len(args) == 4 && args[0] == "govmomi":
		return govmomiImport(ctx, args[1], args[2], args[3])
	}
	return fmt.Errorf("-part %q", args)
}

// maxUnits bounds the grains that the inflaters are measured on.
const maxUnits = 1500

// inflateAll measures the inflaters on a VMDK's grains, and prints MB/s.
func inflateAll(ctx context.Context, path string) error {
	f, err := local.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := formats.Open(ctx, f, "vmdk", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer img.Close()
	var units [][]byte
	var unit int64
	seen := 0
	for off := int64(0); off < img.Size(); {
		e, err := img.Extent(ctx, off)
		if err != nil {
			return err
		}
		off = e.End()
		if e.Kind != disk.Compressed {
			continue
		}
		// One in sixteen, so that they come from all over the disk.
		if seen++; seen%16 != 0 || len(units) == maxUnits {
			continue
		}
		b := make([]byte, e.FileLength)
		if _, err := e.File.ReadAt(b, e.FileOffset); err != nil {
			return err
		}
		unit = e.Length
		units = append(units, b[2:len(b)-4]) // zlib's header and trailer
	}
	if len(units) == 0 {
		return fmt.Errorf("%s has no compressed grains", path)
	}
	dst := make([]byte, unit)
	inflaters := []way{
		{"ovation", func(src []byte) error { _, _, err := inflate.Inflate(dst, src); return err }},
		{"klauspost/compress", streaming(dst, flate.NewReader)},
		{"standard library", streaming(dst, stdflate.NewReader)},
	}
	took, err := inTurn(ctx, units, inflaters)
	if err != nil {
		return err
	}
	for n, w := range inflaters {
		fmt.Printf("%s\t%.0f\n", w.name, float64(len(units))*float64(unit)/took[n].Seconds()/1e6)
	}
	return libdeflate(ctx, units, unit)
}

// tries is how often inTurn does everything.
const tries = 5

// A way of doing something with a unit.
type way struct {
	name string
	do   func([]byte) error
}

// inTurn says how long each way of doing something takes for all units, as the best
// of some tries. They take turns, a part of the units at a time, so that what else
// goes on meets all of them.
func inTurn(ctx context.Context, units [][]byte, ways []way) ([]time.Duration, error) {
	took := make([]time.Duration, len(ways))
	for part := range slices.Chunk(units, 32) {
		for n, w := range ways {
			best := time.Duration(1 << 62)
			for range tries {
				start := time.Now()
				for _, u := range part {
					if err := w.do(u); err != nil {
						return nil, fmt.Errorf("%s: %w", w.name, err)
					}
				}
				best = min(best, time.Since(start))
			}
			took[n] += best
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// deflateAll measures the compressors on pieces of a raw disk, of the size of a
// VMDK's grains, and prints MB/s and what they leave of the size.
func deflateAll(ctx context.Context, path string) error {
	const grain = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var grains [][]byte
	zero := make([]byte, grain)
	for at := int64(0); len(grains) < maxUnits; at += 16 * grain {
		b := make([]byte, grain)
		if _, err := f.ReadAt(b, at); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if !bytes.Equal(b, zero) {
			grains = append(grains, b)
		}
	}
	if len(grains) == 0 {
		return fmt.Errorf("%s holds nothing", path)
	}
	k, err := flate.NewWriter(nil, 6) // which is nearest in size
	if err != nil {
		return err
	}
	z, err := stdflate.NewWriter(nil, stdflate.DefaultCompression)
	if err != nil {
		return err
	}
	compressors := []struct {
		name string
		do   func(dst, src []byte) (int, error)
	}{
		{"ovation", func(dst, src []byte) (int, error) { return len(deflate.Append(dst, src)), nil }},
		{"klauspost/compress", writing(k)},
		{"standard library", writing(z)},
	}
	dst := make([]byte, 0, 2*grain)
	sizes := make([]int, len(compressors)) // of all tries
	var ways []way
	for n, c := range compressors {
		ways = append(ways, way{c.name, func(src []byte) error {
			size, err := c.do(dst, src)
			sizes[n] += size
			return err
		}})
	}
	took, err := inTurn(ctx, grains, ways)
	if err != nil {
		return err
	}
	total := float64(len(grains)) * grain
	for n, w := range ways {
		fmt.Printf("%s\t%.0f\t%.4f\n", w.name, total/took[n].Seconds()/1e6, float64(sizes[n])/tries/total)
	}
	return nil
}

func writing(w interface {
	io.WriteCloser
	Reset(io.Writer)
}) func(dst, src []byte) (int, error) {
	return func(dst, src []byte) (int, error) {
		out := bytes.NewBuffer(dst)
		w.Reset(out)
		if _, err := w.Write(src); err != nil {
			return 0, err
		}
		err := w.Close()
		return out.Len(), err
	}
}

func streaming(dst []byte, open func(io.Reader) io.ReadCloser) func([]byte) error {
	in := bytes.NewReader(nil)
	r := open(in)
	return func(src []byte) error {
		in.Reset(src)
		// Both libraries have the same method.
		if err := r.(stdflate.Resetter).Reset(in, nil); err != nil {
			return err
		}
		_, err := io.ReadFull(r, dst)
		return err
	}
}

// libdeflate measures the same in C, where there is a compiler and the
// library.
func libdeflate(ctx context.Context, units [][]byte, unit int64) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "libdeflate")
	source := filepath.Join(dir, "libdeflate.c")
	if err := os.WriteFile(source, []byte(libdeflateSource), 0o666); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-o", program, source, "-ldeflate").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "libdeflate is left out (gcc and libdeflate-dev are needed): %v\n%s", err, firstLine(string(out)))
		return nil
	}
	var in bytes.Buffer
	for _, u := range units {
		fmt.Fprintf(&in, "%8d", len(u))
		in.Write(u)
	}
	data := filepath.Join(dir, "units")
	if err := os.WriteFile(data, in.Bytes(), 0o666); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, data, strconv.FormatInt(unit, 10)).Output()
	if err != nil {
		return fmt.Errorf("libdeflate: %w", err)
	}
	fmt.Printf("libdeflate (C)\t%s", out)
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line + "\n"
}

const libdeflateSource = `#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	FILE *f = fopen(argv[1], "rb");
	size_t unit = strtoul(argv[2], NULL, 10), size, got;
	double best = 1e9;
	char *data, *dst = malloc(unit);
	if (!f || argc != 3)
		return 1;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	data = malloc(size + 1);
	if (fread(data, 1, size, f) != size)
		return 1;
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	size_t total = 0;
	for (int run = 0; run < 5; run++) {
		struct timespec a, b;
		total = 0;
		clock_gettime(CLOCK_MONOTONIC, &a);
		for (size_t at = 0; at < size; ) {
			char number[9] = "";
			for (int i = 0; i < 8; i++)
				number[i] = data[at + i];
			size_t n = strtoul(number, NULL, 10);
			if (libdeflate_deflate_decompress(d, data + at + 8, n, dst, unit, &got))
				return 1;
			total += got;
			at += 8 + n;
		}
		clock_gettime(CLOCK_MONOTONIC, &b);
		double t = (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9;
		if (t < best)
			best = t;
	}
	printf("%.0f\n", total / best / 1e6);
	return 0;
}
`
