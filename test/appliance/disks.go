package appliance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const (
	mib           = 1 << 20
	bootDiskSize  = 40 * mib
	partitionFrom = 1 * mib
)

// disks gives the appliance's disks as plain bytes, made or from the cache.
func (b *Builder) disks(ctx context.Context, spec Spec) ([]PackagedDisk, error) {
	sys, err := b.guest(ctx)
	if err != nil {
		return nil, err
	}
	line := commandLine(spec)
	key, err := b.key("boot", []string{string(spec.Boot), line})
	if err != nil {
		return nil, err
	}
	boot, err := b.disk(key, func(path string) error { return makeBootDisk(ctx, path, sys, spec.Boot, line) })
	if err != nil {
		return nil, fmt.Errorf("boot disk: %w", err)
	}
	boot.File = spec.Name + "-disk1.vmdk"
	disks := []PackagedDisk{boot}
	for i, d := range spec.Disks {
		key, err := b.key("data", []int64{d.Size, d.Seed})
		if err != nil {
			return nil, err
		}
		data, err := b.disk(key, func(path string) error { return makeDataDisk(path, d) })
		if err != nil {
			return nil, fmt.Errorf("data disk %d: %w", i, err)
		}
		data.File = fmt.Sprintf("%s-disk%d.vmdk", spec.Name, i+2)
		disks = append(disks, data)
	}
	return disks, nil
}

// commandLine is what the kernel is told.
func commandLine(spec Spec) string {
	words := []string{"panic=-1", "net.ifnames=0", "random.trust_cpu=on", "tsc=unstable", "no_timer_check"}
	if spec.KernelLog {
		words = append(words, "console=ttyS0,115200")
	} else {
		words = append(words, "quiet", "loglevel=0", "console=tty0")
	}
	words = append(words, fmt.Sprintf("ovation.disks=%d", 1+len(spec.Disks)), fmt.Sprintf("ovation.nics=%d", len(spec.NICs)))
	if spec.Linger > 0 {
		words = append(words, fmt.Sprintf("ovation.linger=%d", spec.Linger))
	}
	return strings.Join(words, " ")
}

// disk gives one disk with its checksum.
func (b *Builder) disk(key string, make func(path string) error) (PackagedDisk, error) {
	dir, err := b.once(key, func(dir string) error {
		path := filepath.Join(dir, "disk.raw")
		if err := make(path); err != nil {
			return err
		}
		sum := sha256.New()
		if err := hashInto(sum, path); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "sha256"), []byte(hex.EncodeToString(sum.Sum(nil))), 0o644)
	})
	if err != nil {
		return PackagedDisk{}, err
	}
	sum, err := os.ReadFile(filepath.Join(dir, "sha256"))
	if err != nil {
		return PackagedDisk{}, err
	}
	raw := filepath.Join(dir, "disk.raw")
	info, err := os.Stat(raw)
	if err != nil {
		return PackagedDisk{}, err
	}
	return PackagedDisk{Raw: raw, Capacity: info.Size(), SHA256: string(sum)}, nil
}

// makeDataDisk writes noise with holes between: about half is never written.
func makeDataDisk(path string, d Disk) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(d.Size); err != nil {
		return err
	}
	noise := rand.New(rand.NewPCG(uint64(d.Seed), uint64(d.Size)))
	block := make([]byte, 64<<10)
	for off := int64(0); off < d.Size; off += int64(len(block)) {
		if noise.IntN(2) == 0 {
			continue
		}
		// Half noise, half a pattern: it compresses, but not to nothing.
		for i := range block {
			if i < len(block)/2 {
				block[i] = byte(noise.Uint32())
			} else {
				block[i] = byte(off >> 16)
			}
		}
		if _, err := f.WriteAt(block[:min(int64(len(block)), d.Size-off)], off); err != nil {
			return err
		}
	}
	return f.Close()
}

// makeBootDisk makes a disk that firmware boots the guest from. A FAT file
// system inside of one partition is written in place: nothing is mounted.
func makeBootDisk(ctx context.Context, path string, sys *guest, boot Boot, line string) error {
	dir := filepath.Dir(path)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(bootDiskSize); err != nil {
		return err
	}
	bios := boot == BootBIOS || boot == BootBoth
	efi := boot == BootEFI || boot == BootBoth
	if !bios && !efi {
		return fmt.Errorf("boot disk of kind %q is not known", boot)
	}

	// Partitions. The last MiB is left to the second copy of a GPT.
	const sectors = (bootDiskSize - 2*partitionFrom) / 512
	table := fmt.Sprintf("label: dos\nlabel-id: 0x4f564131\nstart=2048, size=%d, type=c, bootable\n", sectors)
	if efi {
		attrs := ""
		if bios {
			attrs = ", attrs=LegacyBIOSBootable"
		}
		table = fmt.Sprintf("label: gpt\nlabel-id: 6F766174-696F-6E00-0000-000000000001\n"+
			"start=2048, size=%d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=6F766174-696F-6E00-0000-000000000002, name=EFI%s\n", sectors, attrs)
	}
	if _, err := pipe(ctx, dir, strings.NewReader(table), "sfdisk", "--quiet", path); err != nil {
		return err
	}

	fat := fmt.Sprintf("%s@@%d", path, partitionFrom)
	if err := run(ctx, dir, "mformat", "-i", fat, "-T", fmt.Sprint(sectors), "-h", "64", "-s", "32",
		"-H", fmt.Sprint(partitionFrom/512), "-N", "4f564131", "-v", "OVATION", "::"); err != nil {
		return err
	}
	if bios {
		if err := addSyslinux(ctx, path, fat, sys, efi, line); err != nil {
			return err
		}
	}
	if efi {
		if err := addEFI(ctx, dir, fat, sys, line); err != nil {
			return err
		}
	}
	return f.Close()
}

// addSyslinux lets a BIOS boot: code in the first sector that starts the
// marked partition, and SYSLINUX in there.
func addSyslinux(ctx context.Context, path, fat string, sys *guest, gpt bool, line string) error {
	dir := filepath.Dir(path)
	config := filepath.Join(dir, "syslinux.cfg")
	text := "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  KERNEL vmlinuz\n  INITRD initrd.gz\n  APPEND " + line + "\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	defer os.Remove(config)
	if err := run(ctx, dir, "mcopy", "-i", fat, sys.kernel, sys.initrd, config, "::"); err != nil {
		return err
	}
	if err := run(ctx, dir, "syslinux", "--install", "--offset", fmt.Sprint(partitionFrom), path); err != nil {
		return err
	}
	code := "/usr/lib/syslinux/mbr/mbr.bin"
	if gpt {
		code = "/usr/lib/syslinux/mbr/gptmbr.bin"
	}
	mbr, err := os.ReadFile(code)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(mbr[:min(len(mbr), 440)], 0); err != nil {
		return err
	}
	return f.Close()
}

// addEFI puts kernel, command line and initial file system, as one program,
// where firmware looks on a disk that it knows nothing of.
func addEFI(ctx context.Context, dir, fat string, sys *guest, line string) error {
	cmdline := filepath.Join(dir, "cmdline")
	program := filepath.Join(dir, "BOOTX64.EFI")
	defer os.Remove(cmdline)
	defer os.Remove(program)
	if err := os.WriteFile(cmdline, []byte(line+"\x00"), 0o644); err != nil {
		return err
	}
	err := run(ctx, dir, "objcopy",
		"--add-section", ".cmdline="+cmdline, "--change-section-vma", ".cmdline=0x30000",
		"--add-section", ".linux="+sys.kernel, "--change-section-vma", ".linux=0x2000000",
		"--add-section", ".initrd="+sys.initrd, "--change-section-vma", ".initrd=0x3000000",
		sys.efiStub, program)
	if err != nil {
		return err
	}
	if err := run(ctx, dir, "mmd", "-i", fat, "::/EFI", "::/EFI/BOOT"); err != nil {
		return err
	}
	return run(ctx, dir, "mcopy", "-i", fat, program, "::/EFI/BOOT/BOOTX64.EFI")
}
