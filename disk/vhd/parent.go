package vhd

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"

	"github.com/ovation-project/ovation/disk"
)

// Places in the dynamic header.
const (
	parentIDAt   = 40
	parentNameAt = 64
	parentNameN  = 512
	locatorsAt   = 576
	locators     = 8
	locatorSize  = 24
	maxPath      = 4 << 10
)

// relativePath is the platform code of a path that begins where the disk is.
const relativePath = "W2ru"

// parentName gives the name that a differencing disk has for its parent, as a
// package would have it: relative, with slashes; where the disk tells no more
// than where the parent was on another machine, that path's last part.
func parentName(f disk.File, h []byte) string {
	for i := range locators {
		e := h[locatorsAt+i*locatorSize:][:locatorSize]
		n, at := be.Uint32(e[8:]), be.Uint64(e[16:])
		if string(e[:4]) != relativePath || n == 0 || n > maxPath || at > uint64(f.Size()) {
			continue
		}
		b := make([]byte, n)
		if got, _ := f.ReadAt(b, int64(at)); got < len(b) {
			continue
		}
		if name := text(b, binary.LittleEndian); name != "" {
			return strings.TrimPrefix(strings.ReplaceAll(name, `\`, "/"), "./")
		}
	}
	name := text(h[parentNameAt:parentNameAt+parentNameN], be)
	return name[strings.LastIndexAny(name, `\/`)+1:]
}

// text is UTF-16, up to its end or a zero.
func text(b []byte, order binary.ByteOrder) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := order.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

func (m *image) openParent(ctx context.Context, h []byte, opt disk.OpenOptions) error {
	parent, err := opt.Below(ctx, "vhd", m.info.Parent, "")
	if err != nil {
		return err
	}
	if err := isParent(parent, [16]byte(h[parentIDAt:])); err != nil {
		return errors.Join(err, parent.Close())
	}
	m.Below = parent
	return nil
}

// isParent says whether a parent is the one that the disk was made on.
func isParent(parent disk.Image, id [16]byte) error {
	p, ok := disk.Unwrap(parent).(*image)
	if !ok || p.uuid == id {
		return nil // of another format it has no such ID
	}
	return corrupt("the disk is a delta of another one than its parent: the unique ID wanted is %x, and the parent has %x", id, p.uuid)
}
