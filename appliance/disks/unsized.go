package disks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/ovf"
)

// errUnsized says that a file is a raw disk of which nobody knows the size before
// it has ended.
var errUnsized = errors.New("a raw disk of unknown size")

// capacity is a disk's by the descriptor, 0 where that does not tell.
func capacity(env *ovf.Envelope, d *ovf.Disk) int64 {
	r, err := ovf.Resolve(env, ovf.ResolveOptions{})
	if err != nil || d == nil || r.Disks[d.ID] == nil {
		return 0
	}
	return r.Disks[d.ID].Capacity
}

// unsized is a raw disk that comes compressed, or in chunks, and has the capacity
// that the descriptor says: where it ends before, the rest is a hole.
type unsized struct {
	r        io.Reader
	at, size int64
	href     string
	buf      []byte
	ended    bool
}

// Size is the capacity.
func (u *unsized) Size() int64 { return u.size }

// Info says what it is.
func (u *unsized) Info() disk.Info { return disk.Info{Format: "raw"} }

// Next gives what comes, and sees that it goes into the capacity.
func (u *unsized) Next(ctx context.Context) (disk.Run, error) {
	if ctx.Err() != nil {
		return disk.Run{}, context.Cause(ctx)
	}
	if u.ended {
		return disk.Run{}, io.EOF
	}
	if u.buf == nil {
		u.buf = make([]byte, 1<<20)
	}
	n, err := 0, error(nil)
	for n < len(u.buf) && err == nil {
		// io.ReadFull would not tell an end from what breaks off.
		var m int
		m, err = u.r.Read(u.buf[n:])
		n += m
	}
	if err != nil && err != io.EOF {
		return disk.Run{}, err
	}
	u.ended = err != nil
	if int64(n) > u.size-u.at {
		return disk.Run{}, fmt.Errorf("%s: %w: it unpacks to more than %d bytes, the capacity of its disk", u.href, appliance.ErrInvalid, u.size)
	}
	if n == 0 {
		return disk.Run{}, io.EOF
	}
	if pad := min(-n&(disk.SectorSize-1), int(min(u.size-u.at-int64(n), disk.SectorSize))); pad > 0 {
		clear(u.buf[n : n+pad])
		n += pad
	}
	run := disk.Run{Extent: disk.Extent{Offset: u.at, Length: int64(n), Kind: disk.Data, FileOffset: u.at, FileLength: int64(n)}, Stored: u.buf[:n]}
	u.at += int64(n)
	return run, nil
}
