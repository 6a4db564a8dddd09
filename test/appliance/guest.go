package appliance

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modules are the drivers that the guest must have; what they depend on is
// found in them. They are loaded in this order, so that where two could drive
// a device it is always the same one.
var modules = []string{
	// The buses that others sit on.
	"virtio_pci",
	// Storage.
	"sd_mod", "sr_mod", "isofs",
	"ata_piix", "ahci", "sym53c8xx", "mptspi", "mptsas", "vmw_pvscsi",
	"virtio_blk", "virtio_scsi", "nvme", "BusLogic", "megaraid_sas",
	"uhci-hcd", "ehci-pci", "xhci-pci", "usb-storage",
	// Network.
	"e1000", "e1000e", "pcnet32", "vmxnet3", "virtio_net", "8139cp", "8139too", "ne2k-pci",
	// The power button, and the channel of a guest agent.
	"button", "evdev", "virtio_console",
	// DHCP listens on a packet socket (af_packet is built in).
}

// guest is the operating system, as files.
type guest struct {
	kernel, initrd, efiStub string
}

// guest gives kernel, initial file system and EFI stub.
func (b *Builder) guest(ctx context.Context) (*guest, error) {
	key, err := b.key("guest", nil)
	if err != nil {
		return nil, err
	}
	dir, err := b.once(key, func(dir string) error { return b.makeGuest(ctx, dir) })
	if err != nil {
		return nil, fmt.Errorf("guest system: %w", err)
	}
	return &guest{
		kernel:  filepath.Join(dir, "vmlinuz"),
		initrd:  filepath.Join(dir, "initrd.gz"),
		efiStub: filepath.Join(dir, "stub.efi"),
	}, nil
}

func (b *Builder) makeGuest(ctx context.Context, dir string) error {
	unpacked := filepath.Join(dir, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(unpacked)
	for name, deb := range b.debs {
		if err := run(ctx, dir, "dpkg-deb", "-x", deb, filepath.Join(unpacked, name)); err != nil {
			return err
		}
	}
	linux := filepath.Join(unpacked, "linux-image-amd64")
	for from, to := range map[string]string{
		filepath.Join(linux, "boot", "vmlinuz-*"):                                                 "vmlinuz",
		filepath.Join(unpacked, "systemd-boot-efi", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"): "stub.efi",
	} {
		if err := moveOne(from, filepath.Join(dir, to)); err != nil {
			return err
		}
	}

	root := filepath.Join(dir, "root")
	defer os.RemoveAll(root)
	for _, d := range []string{"bin", "modules"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := moveOne(filepath.Join(unpacked, "busybox-static", "bin", "busybox"), filepath.Join(root, "bin", "busybox")); err != nil {
		return err
	}
	for _, name := range []string{"init", "udhcpc"} {
		text, err := sources.ReadFile("guest/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, name), text, 0o755); err != nil {
			return err
		}
	}
	if err := gatherModules(linux, filepath.Join(root, "modules")); err != nil {
		return err
	}
	return packInitrd(ctx, root, filepath.Join(dir, "initrd.gz"))
}

// moveOne moves the one file that the pattern means.
func moveOne(pattern, to string) error {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%s: %d files, want one", pattern, len(found))
	}
	return os.Rename(found[0], to)
}

// gatherModules copies the modules, and those they need, to dir, and writes
// the order in which they are to be loaded.
func gatherModules(linux, dir string) error {
	files := map[string]string{}
	err := filepath.WalkDir(linux, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	var order []string
	var add func(name string, needed bool) error
	add = func(name string, needed bool) error {
		name = moduleName(name)
		if slices.Contains(order, name+".ko") {
			return nil
		}
		path, ok := files[name]
		if !ok {
			if needed {
				return fmt.Errorf("the kernel package has no module %s", name)
			}
			return nil // built in
		}
		needs, wants, err := moduleNeeds(path)
		if err != nil {
			return err
		}
		for _, n := range wants {
			if err := add(n, false); err != nil {
				return err
			}
		}
		for _, n := range needs {
			if err := add(n, true); err != nil {
				return err
			}
		}
		order = append(order, name+".ko")
		return os.Rename(path, filepath.Join(dir, name+".ko"))
	}
	for _, name := range modules {
		if err := add(name, true); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "order"), []byte(strings.Join(order, "\n")+"\n"), 0o644)
}

// moduleName gives a module's name as the kernel knows it.
func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}

// moduleNeeds reads from a module which others it needs, and which it would
// like to be loaded before it.
func moduleNeeds(path string) (needs, wants []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, nil, fmt.Errorf("%s has no .modinfo section", path)
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: .modinfo: %w", path, err)
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			needs = append(needs, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			if list, ok := strings.CutPrefix(value, "pre:"); ok {
				wants = append(wants, strings.Fields(list)...)
			}
		}
	}
	return needs, wants, nil
}

// packInitrd makes the initial file system of all that is below root.
func packInitrd(ctx context.Context, root, to string) error {
	var names []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	archive, err := pipe(ctx, root, strings.NewReader(strings.Join(names, "\n")+"\n"),
		"cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0")
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(archive); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
