package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// inflaters compares the one-shot inflater with others, on grains of the disk.
func (b *bench) inflaters(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, b.self, "-part", "inflate", b.path("disk.vmdk"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	fmt.Printf("\nInflating grains of the VMDK on one processor:\n")
	var own float64
	for line := range strings.Lines(string(out)) {
		name, speed, _ := strings.Cut(strings.TrimSpace(line), "\t")
		v, err := strconv.ParseFloat(speed, 64)
		if err != nil || v == 0 {
			return fmt.Errorf("output %q", line)
		}
		if own == 0 {
			own = v
			fmt.Printf("  %-30s  %6.0f MB/s\n", name, v)
			continue
		}
		goal := ""
		if strings.HasPrefix(name, "klauspost") {
			goal = "goal 2.00: " + b.verdict(own/v >= 2)
		}
		fmt.Printf("  %-30s  %6.0f MB/s  ovation is %.2f times as fast  %s\n", name, v, own/v, goal)
	}
	return nil
}

// compressors compares the one-shot compressor with others, on pieces of the disk.
func (b *bench) compressors(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, b.self, "-part", "deflate", b.path("disk.raw"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	fmt.Printf("\nCompressing pieces of 64 KiB on one processor:\n")
	var own float64
	for line := range strings.Lines(string(out)) {
		var speed, size float64
		name, figures, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if n, err := fmt.Sscanf(figures, "%f\t%f", &speed, &size); n != 2 || speed == 0 {
			return fmt.Errorf("output %q: %w", line, err)
		}
		compared := ""
		if own == 0 {
			own = speed
		} else {
			compared = fmt.Sprintf("ovation is %.2f times as fast", own/speed)
		}
		fmt.Printf("  %-30s  %6.0f MB/s to %.4f of the size  %s\n", name, speed, size, compared)
	}
	return nil
}

// sparseMap lists the extents of a disk of 1 TiB that is nearly empty.
func (b *bench) sparseMap(ctx context.Context) error {
	if err := b.clean(); err != nil {
		return err
	}
	const size, piece = 1 << 40, 1 << 20
	raw := b.path("out", "sparse.raw")
	f, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	block := make([]byte, piece)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for i := range int64(64) {
		if _, err := f.WriteAt(block, i*size/64); err != nil {
			return err
		}
	}
	fmt.Printf("\nListing the extents of a sparse disk of 1 TiB:\n")
	for _, image := range [][]string{
		{"sparse.qcow2", "-O", "qcow2"},
		{"sparse.vmdk", "-O", "vmdk"},
		{"stream.vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized"},
	} {
		path := b.path("out", image[0])
		args := append(append([]string{"convert", "-f", "raw"}, image[1:]...), raw, path)
		if out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("qemu-img: %w\n%s", err, out)
		}
		u, err := b.measure(ctx, command{b.ovation, "disk", "map", "--json", path}, nil)
		if err != nil {
			return err
		}
		fmt.Printf("  %-30s  %6.2f s  %4d MiB  goal 128 MiB: %s\n", strings.Join(image[1:], " "), u.wall, u.memory>>20, b.verdict(u.memory <= 128<<20))
	}
	return nil
}

// lint judges 800 descriptors of 10 KB on one processor.
func (b *bench) lint(ctx context.Context) error {
	help, err := exec.CommandContext(ctx, b.ovation, "lint", "--help").Output()
	if err != nil || !strings.Contains(string(help), "ovation lint ") {
		return nil // not in this build
	}
	if err := b.clean(); err != nil {
		return err
	}
	text := string(descriptor("disk.vmdk", 1<<30, 4<<30))
	at := strings.Index(text, "    </VirtualHardwareSection>")
	var more strings.Builder
	for i := 5; at+more.Len()+len(text)-at < 10_000; i++ {
		fmt.Fprintf(&more, "      <Item>\n        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:Connection>net</rasd:Connection><rasd:ElementName>card %d</rasd:ElementName><rasd:InstanceID>%d</rasd:InstanceID><rasd:ResourceSubType>E1000</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType>\n      </Item>\n", i, i)
	}
	text = text[:at] + more.String() + text[at:]
	text = strings.Replace(text, "  <VirtualSystem ", "  <NetworkSection>\n    <Info>Networks</Info>\n    <Network ovf:name=\"net\"><Description>A network</Description></Network>\n  </NetworkSection>\n  <VirtualSystem ", 1)
	// The descriptors alone: there are no files beside these.
	args := command{b.ovation, "lint", "-q", "--descriptor-only"}
	for i := range 800 {
		path := b.path("out", fmt.Sprintf("%03d.ovf", i))
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			return err
		}
		args = append(args, path)
	}
	var all []usage
	for range b.runs {
		u, err := b.measure(ctx, args, []string{"GOMAXPROCS=1"})
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	u := median(all)
	fmt.Printf("\nLinting 800 descriptors of 10 KB on one processor: %.2f s, %d MiB  goal 1 s: %s\n", u.wall, u.memory>>20, b.verdict(u.wall < 1))
	return nil
}
