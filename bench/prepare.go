package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// prepare builds what is measured on: a file system of files from /usr, and
// what qemu-img and tar make of it. It is kept for the next time.
func (b *bench) prepare(ctx context.Context) error {
	stamp := fmt.Sprintf("1 %d %d\n", b.capacity, b.data)
	if old, err := os.ReadFile(b.path("stamp")); err == nil && string(old) == stamp {
		return nil
	}
	fmt.Fprintf(os.Stderr, "building a disk of %d MiB with %d MiB of /usr in %s\n", b.capacity>>20, b.data>>20, b.dir)
	os.Remove(b.path("stamp"))
	stage := b.path("stage")
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	if err := gather(ctx, "/usr", stage, b.data); err != nil {
		return err
	}
	mke2fs := ""
	for _, name := range []string{"mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"} {
		if p, err := exec.LookPath(name); err == nil {
			mke2fs = p
			break
		}
	}
	if mke2fs == "" {
		return errors.New("mke2fs is not there; 'make install' installs it (e2fsprogs)")
	}
	raw, vmdk := b.path("disk.raw"), b.path("disk.vmdk")
	os.Remove(raw)
	for _, c := range []command{
		{mke2fs, "-q", "-F", "-t", "ext4", "-d", stage, raw, fmt.Sprintf("%dk", b.capacity>>10)},
		{"qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk},
	} {
		if out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", c[0], err, out)
		}
	}
	size, err := sizeOf(vmdk)
	if err != nil {
		return err
	}
	descriptor := descriptor("disk.vmdk", size, b.capacity)
	if err := os.WriteFile(b.path("appliance.ovf"), descriptor, 0o666); err != nil {
		return err
	}
	digest, err := sha256File(vmdk)
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf("SHA256(appliance.ovf)= %x\nSHA256(disk.vmdk)= %s\n", sha256.Sum256(descriptor), digest)
	if err := os.WriteFile(b.path("appliance.mf"), []byte(manifest), 0o666); err != nil {
		return err
	}
	tar := exec.CommandContext(ctx, "tar", "--format=ustar", "-C", b.dir, "-cf", b.path("appliance.ova"), "appliance.ovf", "appliance.mf", "disk.vmdk")
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return os.WriteFile(b.path("stamp"), []byte(stamp), 0o666)
}

// gather puts files of a folder into another one, up to so many bytes. Which
// ones depends on their names only, and no part of the folder is preferred.
func gather(ctx context.Context, from, to string, most int64) error {
	type file struct {
		path string
		size int64
		key  uint64
	}
	var files []file
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return nil // what this user cannot see is left out
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		h := fnv.New64a()
		io.WriteString(h, path)
		files = append(files, file{path, info.Size(), h.Sum64()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	var total int64
	for _, f := range files {
		if total+f.size > most {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		dst := filepath.Join(to, f.path)
		if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
			return err
		}
		if err := copyFile(f.path, dst); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				continue
			}
			return err
		}
		total += f.size
	}
	if total < most*9/10 {
		return fmt.Errorf("%s has no more than %d bytes that can be read: give a smaller -data", from, total)
	}
	return nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

func sha256File(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// descriptor describes a machine with one disk. Its length is the same for
// all sizes.
func descriptor(file string, size, capacity int64) []byte {
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href=%q %s/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="%d" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="bench">
    <Info>A machine</Info>
    <VirtualHardwareSection>
      <Info>One processor, one disk</Info>
      <Item>
        <rasd:ElementName>1 CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>256 MB</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address><rasd:ElementName>SATA</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType><rasd:ResourceType>20</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Disk</rasd:ElementName><rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`, file, fmt.Sprintf("%-32s", fmt.Sprintf("ovf:size=\"%d\"", size)), capacity)
}
