package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
)

// ovation runs a command line and gives what it printed.
func ovation(t *testing.T, stdin io.Reader, wantExit int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	if got := newApp(stdin, &out, &err).run(t.Context(), args); got != wantExit {
		t.Fatalf("ovation %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, wantExit, &out, &err)
	}
	return out.String(), err.String()
}

// rawDisk writes a disk of 10 MiB with data, text and zeroes.
func rawDisk(t *testing.T, dir string) string {
	t.Helper()
	content := make([]byte, 10<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range content[1<<20 : 2<<20] {
		content[1<<20+i] = byte(rnd.Uint32())
	}
	copy(content[5<<20:], bytes.Repeat([]byte("text that compresses well; "), 60_000))
	copy(content[10<<20-100:], "the last sector")
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDiskConvertRound(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	path := func(name string) string { return filepath.Join(dir, name) }
	ovation(t, nil, 0, "disk", "convert", "-q", raw, path("a.vmdk"))
	ovation(t, nil, 0, "disk", "convert", "-q", path("a.vmdk"), path("b.qcow2"))
	ovation(t, nil, 0, "disk", "convert", "-q", path("a.vmdk"), path("c.qcow2"), "--compress=false")
	ovation(t, nil, 0, "disk", "convert", "-q", path("b.qcow2"), path("d.qcow2"), "--codec", "zstd")
	ovation(t, nil, 0, "disk", "convert", "-q", path("d.qcow2"), path("e.raw"))
	for _, name := range []string{"a.vmdk", "b.qcow2", "c.qcow2", "d.qcow2", "e.raw"} {
		out, _ := ovation(t, nil, 0, "disk", "compare", "-q", raw, path(name))
		if out != "identical\n" {
			t.Errorf("%s: %q", name, out)
		}
		ovation(t, nil, 0, "disk", "check", "-q", path(name))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 6 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// Grains are handed on: no larger, and nothing but handed on.
func TestDiskConvertPassesOn(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	vmdk, qcow2 := filepath.Join(dir, "a.vmdk"), filepath.Join(dir, "b.qcow2")
	ovation(t, nil, 0, "disk", "convert", "-q", raw, vmdk)
	out, _ := ovation(t, nil, 0, "disk", "convert", "-q", "--json", vmdk, qcow2)
	var c diskConversion
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatal(err)
	}
	if c.Passed == 0 || c.Compressed != 0 || c.Capacity != 10<<20 || c.Format != "qcow2" {
		t.Errorf("%+v", c)
	}
	stdin, err := os.Open(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	streamed := filepath.Join(dir, "c.qcow2")
	out, _ = ovation(t, stdin, 0, "disk", "convert", "-q", "--json", "-", streamed)
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatal(err)
	}
	if c.Passed == 0 || c.Compressed != 0 {
		t.Errorf("streamed: %+v", c)
	}
	a, errA := os.ReadFile(qcow2)
	b, errB := os.ReadFile(streamed)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the stream gives another image (%v, %v)", errA, errB)
	}
}

func TestDiskConvertStandardStreams(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	content, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	// A raw disk of unknown size has to be kept first, and is said so.
	vmdk := filepath.Join(dir, "a.vmdk")
	_, stderr := ovation(t, bytes.NewReader(content), 0, "disk", "convert", "--progress", "none", "-", vmdk)
	if !strings.Contains(stderr, "copied to") {
		t.Errorf("not said: %q", stderr)
	}
	out, _ := ovation(t, nil, 0, "disk", "convert", "-q", vmdk, "-", "--to", "raw")
	if out != string(content) {
		t.Error("standard output is another disk")
	}
	ovation(t, nil, 2, "disk", "convert", "-q", vmdk, "-", "--to", "qcow2")
	ovation(t, nil, 2, "disk", "convert", "-q", "--json", vmdk, "-", "--to", "raw")
}

func TestDiskConvertRefuses(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	vmdk := filepath.Join(dir, "a.vmdk")
	ovation(t, nil, 0, "disk", "convert", "-q", raw, vmdk)
	before, err := os.ReadFile(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	_, stderr := ovation(t, nil, 1, "disk", "convert", "-q", raw, vmdk)
	if !strings.Contains(stderr, "exists") {
		t.Error(stderr)
	}
	ovation(t, nil, 0, "disk", "convert", "-q", "--force", raw, vmdk)
	after, err := os.ReadFile(vmdk)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the second time gives other bytes (%v)", err)
	}
	ovation(t, nil, 2, "disk", "convert", "-q", raw, filepath.Join(dir, "x.unknown"))
	ovation(t, nil, 2, "disk", "convert", "-q", raw, filepath.Join(dir, "x.qcow2"), "--level", "12")
	ovation(t, nil, 1, "disk", "convert", "-q", filepath.Join(dir, "missing"), filepath.Join(dir, "x.qcow2"))
}

func TestDiskDamage(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	vmdk, qcow2 := filepath.Join(dir, "a.vmdk"), filepath.Join(dir, "b.qcow2")
	ovation(t, nil, 0, "disk", "convert", "-q", raw, vmdk)
	var runs []diskRun
	out, _ := ovation(t, nil, 0, "disk", "map", "--json", "--units", vmdk)
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatal(err)
	}
	var hit diskRun
	for _, r := range runs {
		if r.Kind == "compressed" && r.Start >= 5<<20 {
			hit = r
			break
		}
	}
	f, err := os.OpenFile(vmdk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff}, *hit.Offset+hit.Stored/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, _ = ovation(t, nil, exitUntrusted, "disk", "check", "-q", "--json", vmdk)
	var checks []diskCheck
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatal(err)
	}
	if c := checks[0]; c.Intact || c.FaultCount != 1 || c.Faults[0].FirstSector != hit.Start/512 || c.Faults[0].Sectors != hit.Length/512 {
		t.Errorf("%+v, damaged at %+v", c, hit)
	}
	ovation(t, nil, exitUntrusted, "disk", "convert", "-q", vmdk, qcow2)
	ovation(t, nil, exitUntrusted, "disk", "compare", "-q", vmdk, raw)
	if _, err := os.Stat(qcow2); err == nil {
		t.Error("half an image is left")
	}
}

func TestDiskCompareDiffers(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	content, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	content[6<<20] ^= 1
	other := filepath.Join(dir, "other.raw")
	if err := os.WriteFile(other, content, 0o666); err != nil {
		t.Fatal(err)
	}
	out, _ := ovation(t, nil, 1, "disk", "compare", "-q", raw, other)
	if !strings.Contains(out, "byte 6291456 ") {
		t.Error(out)
	}
}

func TestDiskInfoAndMap(t *testing.T) {
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	vmdk := filepath.Join(dir, "a.vmdk")
	ovation(t, nil, 0, "disk", "convert", "-q", raw, vmdk)
	out, _ := ovation(t, nil, 0, "disk", "info", "--json", vmdk, raw)
	var infos []diskInfo
	if err := json.Unmarshal([]byte(out), &infos); err != nil {
		t.Fatal(err)
	}
	if i := infos[0]; i.Format != "vmdk" || i.Capacity != 10<<20 || i.Unit != 64<<10 || i.Codec != "zlib" || i.Populated == 0 || i.Stored == nil || *i.Stored >= i.Populated {
		t.Errorf("%+v", i)
	}
	out, _ = ovation(t, nil, 0, "disk", "info", vmdk)
	if !strings.Contains(out, "10 MiB (10485760 bytes)") {
		t.Error(out)
	}
	var runs []diskRun
	out, _ = ovation(t, nil, 0, "disk", "map", "--json", vmdk)
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatal(err)
	}
	pos := int64(0)
	for i, r := range runs {
		if r.Start != pos || i > 0 && r.Kind == runs[i-1].Kind {
			t.Fatalf("%+v", runs)
		}
		pos += r.Length
	}
	if pos != 10<<20 {
		t.Errorf("the map ends at %d", pos)
	}
}

// What is written must be right for others too, and the other way round.
func TestDiskConvertAgainstQemuImg(t *testing.T) {
	qemu := testenv.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	theirs := filepath.Join(dir, "theirs.vmdk")
	runTool(t, qemu, "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, theirs)
	for _, args := range [][]string{
		{"a.qcow2"}, {"b.qcow2", "--compress=false"}, {"c.qcow2", "--codec", "zstd"}, {"d.vmdk"}, {"e.qcow2", "--unit", "4KiB"}, {"f.vmdk", "--subformat", "monolithicSparse"},
	} {
		ours := filepath.Join(dir, args[0])
		ovation(t, nil, 0, append([]string{"disk", "convert", "-q", theirs, ours}, args[1:]...)...)
		runTool(t, qemu, "compare", raw, ours)
		runTool(t, qemu, "check", ours)
	}
}

func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
