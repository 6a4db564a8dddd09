// Command bench runs ovation side by side with what people use otherwise, on
// a disk that it builds from this machine's own /usr, and prints ratios. Times
// of one machine say little about another; ratios of one run say more.
//
// It needs qemu-img, tar, sha256sum, cp, mke2fs and GNU time (scripts/install.sh
// installs them), and about 12 GiB of disk. The comparison with libdeflate
// needs gcc and libdeflate's headers, and is left out without them.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, ovation string
	runs         int
	capacity     int64
	data         int64
	only         *regexp.Regexp
	strict       bool
}

func run(ctx context.Context, args []string) error {
	// What is measured is always a process of its own, this program's parts
	// included.
	if len(args) > 0 && args[0] == "-part" {
		return part(ctx, args[1:])
	}
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", ".cache/bench", "where the disk is built, and everything else is written")
	f.StringVar(&o.ovation, "ovation", "bin/ovation", "the program")
	f.IntVar(&o.runs, "runs", 5, "how often each command is run; the median counts")
	f.Int64Var(&o.capacity, "capacity", 4<<30, "the disk's capacity in bytes")
	f.Int64Var(&o.data, "data", 1700e6, "how many bytes of files it is filled with")
	f.StringVar(&only, "only", "", "run only the comparisons whose name matches")
	f.BoolVar(&o.strict, "strict", false, "fail where a goal is missed")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return err
	}
	for _, p := range []*string{&o.dir, &o.ovation} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if _, err := os.Stat(o.ovation); err != nil {
		return fmt.Errorf("%w; 'make build' builds it", err)
	}
	for _, tool := range []string{"qemu-img", "tar", "sha256sum", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w; 'make install' installs it", err)
		}
	}
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return err
	}
	b := &bench{options: o}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(b.path("out"))
	if err := os.WriteFile(b.path("build.yaml"), []byte(buildSpec), 0o666); err != nil {
		return err
	}
	b.heading()
	for _, c := range b.comparisons() {
		if !o.only.MatchString(c.name) {
			continue
		}
		if err := b.compare(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"export", b.export}, {"inflate", b.inflaters}, {"deflate", b.compressors}, {"map", b.sparseMap}, {"lint", b.lint}, {"nbd", b.nbd}, {"stream", b.stream}, {"vsphere", b.vsphere}} {
		if o.only.MatchString(step.name) {
			if err := step.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
	}
	b.summary()
	if o.strict && b.missed > 0 {
		return fmt.Errorf("%d goals are missed", b.missed)
	}
	return nil
}

type bench struct {
	options
	self   string
	missed int
	most   int64 // the largest resident set of ours, in bytes
}

func (b *bench) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}

// command is one process to be measured.
type command []string

// comparison is something that ovation does, and what people do instead.
type comparison struct {
	name  string
	ours  command
	rival []rival
	// made is what ours leaves, for its size; reference is what rivals'
	// size is.
	made, reference string
	maxSize         float64
	// env is added to ours.
	env []string
	// memory is what ours may have resident, in bytes; 0 is 64 MiB.
	memory int64
}

type rival struct {
	name  string
	steps []command
	// most is the goal for our wall time as a share of theirs, 0 for none;
	// cpu wants less processor time too.
	most float64
	cpu  bool
}

func (b *bench) comparisons() []comparison {
	out := b.path("out")
	at := func(name string) string { return filepath.Join(out, name) }
	vmdk, raw, ova := b.path("disk.vmdk"), b.path("disk.raw"), b.path("appliance.ova")
	qemu := func(format string) []command {
		return []command{{"qemu-img", "convert", "-O", format, vmdk, at("theirs." + format)}}
	}
	convert := func(args ...string) command {
		return append(command{b.ovation, "disk", "convert", "-q", ova + "#disk1"}, args...)
	}
	return []comparison{
		{
			name: "OVA to compressed qcow2, verified",
			ours: convert(at("ours.qcow2")),
			rival: []rival{
				{name: "qemu-img convert -O qcow2", steps: qemu("qcow2"), most: 0.15, cpu: true},
				{name: "cp, then sync", steps: []command{{"cp", vmdk, at("copy")}, {"sync", at("copy")}}, most: 1.5},
			},
		},
		{
			// cp does not wait for the disk either.
			name: "the same, without waiting for the disk",
			ours: convert("--no-sync", at("ours.qcow2")),
			rival: []rival{
				{name: "cp", steps: []command{{"cp", vmdk, at("copy")}}, most: 1.5},
				// What proves a digest cannot take less than this.
				{name: "openssl dgst -sha256", steps: []command{{"openssl", "dgst", "-sha256", vmdk}}},
			},
		},
		{
			name:  "OVA to plain qcow2, verified",
			ours:  convert("--compress=false", at("ours.qcow2")),
			rival: []rival{{name: "qemu-img convert -O qcow2", steps: qemu("qcow2"), most: 0.5, cpu: true}},
		},
		{
			name:  "OVA to raw, verified",
			ours:  convert(at("ours.raw")),
			rival: []rival{{name: "qemu-img convert -O raw", steps: qemu("raw"), most: 0.5, cpu: true}},
		},
		{
			name:  "build: raw to streamOptimized in an OVA",
			ours:  command{b.ovation, "build", "-q", b.path("build.yaml"), "-o", at("ours.ova")},
			rival: []rival{b.byHand(raw)},
			made:  at("ours.ova"), reference: at("theirs.ova"), maxSize: 1.05,
		},
		{
			name:  "verify an OVA",
			ours:  command{b.ovation, "verify", "-q", ova},
			rival: []rival{{name: "openssl dgst -sha256", steps: []command{{"openssl", "dgst", "-sha256", ova}}, most: 1.15}},
		},
		{
			name:  "checking every block of a VMDK",
			ours:  command{b.ovation, "disk", "check", "-q", vmdk},
			rival: []rival{{name: "qemu-img compare with the raw disk", steps: []command{{"qemu-img", "compare", vmdk, raw}}}},
		},
	}
}

// byHand makes an OVA of a raw disk as people do without the program.
func (b *bench) byHand(raw string) rival {
	out := b.path("out")
	return rival{
		name: "qemu-img convert + sha256sum + tar", most: 0.15,
		steps: []command{
			{"qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, b.path("out", "disk.vmdk")},
			{"sha256sum", b.path("out", "disk.vmdk")},
			{"tar", "-C", out, "-cf", b.path("out", "theirs.ova"), "disk.vmdk"},
		},
	}
}

func (b *bench) heading() {
	fmt.Printf("Medians of %d runs; a ratio below 1 means that ovation takes less.\n\n", b.runs)
	fmt.Printf("%-48s  %8s  %8s  %7s  %7s  %9s\n", "", "wall s", "CPU s", "ratio", "of CPU", "memory")
}

func (b *bench) verdict(ok bool) string {
	if ok {
		return "ok"
	}
	b.missed++
	return "MISSED"
}

// compare runs ours and theirs in turn, so that what else the machine does
// falls on both.
func (b *bench) compare(ctx context.Context, c comparison) error {
	var ours []usage
	theirs := make([][]usage, len(c.rival))
	size, reference := int64(0), int64(0)
	for range b.runs {
		if err := b.clean(); err != nil {
			return err
		}
		u, err := b.measure(ctx, c.ours, c.env)
		if err != nil {
			return err
		}
		ours = append(ours, u)
		if c.made != "" {
			if size, err = sizeOf(c.made); err != nil {
				return err
			}
		}
		for i, r := range c.rival {
			if err := b.clean(); err != nil {
				return err
			}
			var sum usage
			for _, step := range r.steps {
				u, err := b.measure(ctx, step, nil)
				if err != nil {
					return err
				}
				sum.add(u)
			}
			theirs[i] = append(theirs[i], sum)
			if c.reference != "" {
				if reference, err = sizeOf(c.reference); err != nil {
					return err
				}
			}
		}
	}
	mine := median(ours)
	b.most = max(b.most, mine.memory)
	most := cmp.Or(c.memory, 64<<20)
	fmt.Printf("%-48s  %8.2f  %8.2f  %7s  %7s  %7d M  %s\n", c.name, mine.wall, mine.cpu, "", "", mine.memory>>20, b.verdict(mine.memory <= most))
	for i, r := range c.rival {
		other := median(theirs[i])
		wall, cpu := mine.wall/other.wall, mine.cpu/other.cpu
		var goal []string
		ok := true
		if r.most > 0 {
			ok = wall <= r.most
			goal = append(goal, fmt.Sprintf("goal %.2f", r.most))
		}
		if r.cpu {
			ok = ok && cpu < 1
			goal = append(goal, "less CPU")
		}
		line := ""
		if len(goal) > 0 {
			line = strings.Join(goal, ", ") + ": " + b.verdict(ok)
		}
		fmt.Printf("  %-46s  %8.2f  %8.2f  %7.3f  %7.2f  %7d M  %s\n", r.name, other.wall, other.cpu, wall, cpu, other.memory>>20, line)
	}
	if c.made != "" {
		ratio := float64(size) / float64(reference)
		fmt.Printf("  %-46s  %8s  %8s  %7.3f  %7s  %9s  goal %.2f: %s\n", "size", "", "", ratio, "", "", c.maxSize, b.verdict(ratio <= c.maxSize))
	}
	return nil
}

func (b *bench) summary() {
	fmt.Printf("\nLargest resident set of ovation in all these: %d MiB. Goals missed: %d.\n", b.most>>20, b.missed)
}

// clean empties the folder for results, and waits until the disk is idle.
func (b *bench) clean() error {
	if err := os.RemoveAll(b.path("out")); err != nil {
		return err
	}
	syscall.Sync()
	return os.Mkdir(b.path("out"), 0o777)
}

func sizeOf(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// usage is what a process took: seconds and bytes.
type usage struct {
	wall, cpu float64
	memory    int64
}

func (u *usage) add(v usage) {
	u.wall += v.wall
	u.cpu += v.cpu
	u.memory = max(u.memory, v.memory)
}

func median(all []usage) usage {
	mid := func(value func(usage) float64) float64 {
		var v []float64
		for _, u := range all {
			v = append(v, value(u))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return usage{
		wall:   mid(func(u usage) float64 { return u.wall }),
		cpu:    mid(func(u usage) float64 { return u.cpu }),
		memory: int64(mid(func(u usage) float64 { return float64(u.memory) })),
	}
}

// measure runs a process under GNU time: what the system itself tells of a
// child's memory includes that of the program that started it.
func (b *bench) measure(ctx context.Context, c command, env []string) (usage, error) {
	const timeTool = "/usr/bin/time"
	report := b.path("time")
	cmd := exec.CommandContext(ctx, timeTool, append([]string{"-f", "%e %U %S %M", "-o", report}, c...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return usage{}, fmt.Errorf("%w; 'make install' installs it", err)
		}
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(c[:min(len(c), 12)], " "), err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		return usage{}, err
	}
	var u usage
	var user, system float64
	if _, err := fmt.Sscan(string(text), &u.wall, &user, &system, &u.memory); err != nil {
		return usage{}, fmt.Errorf("output of %s: %w", timeTool, err)
	}
	u.cpu, u.memory = user+system, u.memory<<10
	// Nothing is measured more finely.
	u.wall = max(u.wall, 0.01)
	u.cpu = max(u.cpu, 0.01)
	return u, nil
}
