package bootprobe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testenv"
)

func mbr(code bool, types ...byte) []byte {
	b := make([]byte, 1<<20)
	if code {
		b[0] = 0xeb
	}
	for i, t := range types {
		b[tableAt+i*entryLength+4] = t
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

func gpt(code bool, sectorSize int, attributes uint64, types ...[16]byte) []byte {
	b := mbr(code, typeGPT)
	h := b[sectorSize:]
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[80:], 128)
	binary.LittleEndian.PutUint32(h[84:], 128)
	for i, t := range types {
		e := b[2*sectorSize+i*128:]
		copy(e, t[:])
		binary.LittleEndian.PutUint64(e[48:], attributes)
	}
	return b
}

func TestProbe(t *testing.T) {
	hostile := gpt(false, 512, 0, espType)
	binary.LittleEndian.PutUint64(hostile[512+72:], 1<<63)
	binary.LittleEndian.PutUint32(hostile[512+80:], 1<<31)
	for _, c := range []struct {
		name string
		disk []byte
		want hypervisor.FirmwareKind
		says string
	}{
		{"nothing", nil, "", "empty"},
		{"zeroes", make([]byte, 4096), "", "empty"},
		{"MBR", mbr(true, 0x83), hypervisor.BIOS, "boot code"},
		{"no table, boot code", mbr(true), hypervisor.BIOS, "boot code"},
		{"data only", mbr(false, 0x83), "", "neither"},
		{"MBR with ESP", mbr(false, typeESP), hypervisor.UEFI, "EFI system partition"},
		{"MBR with ESP and code", mbr(true, 0x83, typeESP), hypervisor.BIOS, "too"},
		{"GPT with ESP", gpt(false, 512, 0, espType), hypervisor.UEFI, "GPT with an EFI"},
		{"GPT with ESP and stray code", gpt(true, 512, 0, espType), hypervisor.UEFI, "GPT with an EFI"},
		{"GPT of 4 KiB sectors", gpt(false, 4096, 0, espType), hypervisor.UEFI, "GPT with an EFI"},
		{"GPT for both", gpt(true, 512, 0, biosBootType, espType), hypervisor.BIOS, "both"},
		{"GPT for both, by attribute", gpt(true, 512, legacyBoot, espType), hypervisor.BIOS, "both"},
		{"GPT for BIOS", gpt(true, 512, 0, biosBootType), hypervisor.BIOS, "without an EFI"},
		{"GPT of data", gpt(false, 512, 0), "", "nothing that boots"},
		{"hostile GPT", hostile, "", "damaged"},
		{"cut off", gpt(false, 512, 0, espType)[:600], "", "neither"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Probe(bytes.NewReader(c.disk), int64(len(c.disk)))
			if err != nil || got.Kind != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("got %+v, %v; want %q and a reason that says %q", got, err, c.want, c.says)
			}
		})
	}
}

// TestReadsWhatOthersWrite has a table made by somebody else's tool.
func TestReadsWhatOthersWrite(t *testing.T) {
	sfdisk := testenv.NeedTool(t, "sfdisk")
	for label, want := range map[string]hypervisor.FirmwareKind{
		"label: gpt\ntype=uefi\n":  hypervisor.UEFI,
		"label: dos\ntype=uefi\n":  hypervisor.UEFI,
		"label: gpt\ntype=linux\n": "",
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(sfdisk, path)
		cmd.Stdin = strings.NewReader(label)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := Probe(f, 8<<20); err != nil || got.Kind != want {
			t.Errorf("%q: %+v, %v", label, got, err)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the cable is out") }

func TestReadError(t *testing.T) {
	if _, err := Probe(broken{}, 1<<20); err == nil || !strings.Contains(err.Error(), "cable") {
		t.Errorf("got %v", err)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(mbr(true, 0x83)[:4096])
	f.Add(gpt(false, 512, 0, espType)[:4096])
	f.Add(gpt(true, 4096, legacyBoot, biosBootType)[:12288])
	f.Fuzz(func(t *testing.T, disk []byte) {
		r, err := Probe(bytes.NewReader(disk), int64(len(disk)))
		if err != nil || r.Reason == "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
