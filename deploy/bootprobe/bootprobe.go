// Package bootprobe tells from a disk's first sectors which firmware it boots
// with: what its partition table and its boot code say, nothing more.
package bootprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/hypervisor"
)

// Result is what a disk says of how it boots.
type Result struct {
	// Kind is the firmware, "" where nothing on the disk tells.
	Kind hypervisor.FirmwareKind
	// Reason is why, for people: "the disk has a GPT with an EFI system
	// partition".
	Reason string
}

const (
	sector       = 512
	codeLength   = 440 // of the MBR, before the disk's signature
	tableAt      = 446
	entryLength  = 16
	typeGPT      = 0xee
	typeESP      = 0xef
	flagActive   = 0x80
	maxEntries   = 1024 // of a GPT; 128 is usual
	maxEntrySize = 4096
	legacyBoot   = 1 << 2 // of a GPT entry's attributes: a BIOS may boot it
)

// The partition types of a GPT that matter, as they are stored (UEFI 2.10,
// clause 5.3.3; the second is GRUB's).
var (
	espType      = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	biosBootType = [16]byte{0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49}
)

// Probe looks at a disk of a size in bytes. A disk that boots both ways is
// said to boot with a BIOS, which is what a descriptor that is silent means.
func Probe(disk io.ReaderAt, size int64) (Result, error) {
	if size < sector {
		return Result{Reason: "the disk is empty"}, nil
	}
	mbr := make([]byte, sector)
	if err := read(disk, mbr, 0); err != nil {
		return Result{}, fmt.Errorf("the disk's first sector: %w", err)
	}
	signed := mbr[sector-2] == 0x55 && mbr[sector-1] == 0xaa
	code := signed && !zero(mbr[:codeLength])
	var gpt, esp, active bool
	for at := tableAt; signed && at < sector-2; at += entryLength {
		switch mbr[at+4] {
		case typeGPT:
			gpt = true
		case typeESP:
			esp = true
		}
		active = active || mbr[at] == flagActive
	}
	if gpt {
		// 4096 is the sector size of some disks.
		for _, size := range []int64{512, 4096} {
			if r, ok, err := probeGPT(disk, size, code); ok || err != nil {
				return r, err
			}
		}
	}
	switch {
	case esp && !code:
		return Result{hypervisor.UEFI, "the disk has an EFI system partition and no boot code"}, nil
	case esp && code && !active:
		return Result{hypervisor.BIOS, "the disk has boot code in its MBR, and an EFI system partition too"}, nil
	case code:
		return Result{hypervisor.BIOS, "the disk has boot code in its MBR"}, nil
	case zero(mbr):
		return Result{Reason: "the disk's first sector is empty"}, nil
	}
	return Result{Reason: "the disk has neither boot code nor an EFI system partition"}, nil
}

// probeGPT reads a GUID partition table; it answers false where there is none
// for this sector size.
func probeGPT(disk io.ReaderAt, sectorSize int64, code bool) (Result, bool, error) {
	header := make([]byte, 92)
	if err := read(disk, header, sectorSize); err != nil {
		if errors.Is(err, io.EOF) {
			return Result{}, false, nil
		}
		return Result{}, false, fmt.Errorf("the disk's partition table: %w", err)
	}
	if string(header[:8]) != "EFI PART" {
		return Result{}, false, nil
	}
	first := binary.LittleEndian.Uint64(header[72:])
	n := min(binary.LittleEndian.Uint32(header[80:]), maxEntries)
	length := binary.LittleEndian.Uint32(header[84:])
	if length < 128 || length > maxEntrySize || first > 1<<40 {
		return Result{Reason: "the disk has a GPT that is damaged"}, true, nil
	}
	var esp, bios, legacy bool
	entry := make([]byte, 56)
	for i := range n {
		if err := read(disk, entry, int64(first)*sectorSize+int64(i)*int64(length)); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return Result{}, false, fmt.Errorf("the disk's partition table: %w", err)
		}
		switch [16]byte(entry) {
		case espType:
			esp = true
		case biosBootType:
			bios = true
		}
		legacy = legacy || binary.LittleEndian.Uint64(entry[48:])&legacyBoot != 0
	}
	switch {
	case esp && code && (bios || legacy):
		return Result{hypervisor.BIOS, "the disk has a GPT that boots both with a BIOS and with UEFI"}, true, nil
	case esp:
		return Result{hypervisor.UEFI, "the disk has a GPT with an EFI system partition"}, true, nil
	case code:
		return Result{hypervisor.BIOS, "the disk has a GPT without an EFI system partition, and boot code in its MBR"}, true, nil
	}
	return Result{Reason: "the disk has a GPT with nothing that boots"}, true, nil
}

// read fills b; a disk that ends before gives io.EOF.
func read(disk io.ReaderAt, b []byte, off int64) error {
	n, err := disk.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return err
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
