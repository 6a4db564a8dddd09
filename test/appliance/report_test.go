package appliance

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseReport(t *testing.T) {
	text := "SeaBIOS\r\n\x1b[Hreport=begin\r\nkernel=6.1.0\r\narch=x86_64\r\nfirmware=efi\r\ncpus=4\r\nsockets=2\r\ncores=2\r\n" +
		"memory.mib=512\r\nmemory.usable.kib=480000\r\nuuid=abc\r\nmachine=QEMU\r\n" +
		"disk.sda.size=1024\r\ndisk.sda.driver=ahci\r\ndisk.sda.address=0:0:1:0\r\ndisk.sda.sha256=ff\r\ndisk.vda.size=512\r\ndisk.vda.pci=0000:00:09.0\r\n" +
		"cdrom.sr0.driver=ata_piix\r\ncdrom.sr0.files=a b \r\nenvironment=PGEvPg==\r\n" +
		"nic.eth0.driver=e1000\r\nnic.eth0.mac=52:54:00:00:00:01\r\nreport=end\r\nafter\r\n"
	got, err := ParseReport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got.Lines = nil
	want := &Report{
		Kernel: "6.1.0", Arch: "x86_64", Firmware: "efi", CPUs: 4, Sockets: 2, Cores: 2,
		MemoryMiB: 512, UsableKiB: 480000, UUID: "abc", Machine: "QEMU",
		Disks: []ReportedDisk{
			{Name: "sda", Driver: "ahci", Address: "0:0:1:0", SHA256: "ff", Size: 1024},
			{Name: "vda", PCI: "0000:00:09.0", Size: 512},
		},
		CDROMs:      []ReportedCDROM{{Name: "sr0", Driver: "ata_piix", Files: []string{"a", "b"}}},
		NICs:        []ReportedNIC{{Name: "eth0", Driver: "e1000", MAC: "52:54:00:00:00:01"}},
		Environment: []byte("<a/>"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDisksAreInOrderOfPlace(t *testing.T) {
	text := "report=begin\n" +
		"disk.sda.pci=0000:00:04.0\ndisk.sda.address=2:0:10:0\n" +
		"disk.sdb.pci=0000:00:04.0\ndisk.sdb.address=2:0:9:0\n" +
		"disk.sdc.pci=0000:00:03.0\ndisk.sdc.address=3:0:0:0\n" +
		"report=end\n"
	r, err := ParseReport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.Disks {
		got = append(got, d.Name)
	}
	if diff := cmp.Diff([]string{"sdc", "sdb", "sda"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseReportBroken(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "",
		"never began":   "kernel=6\nreport=end\n",
		"broke off":     "report=begin\nkernel=6\n",
		"not key=value": "report=begin\n[    1.0] oops\nreport=end\n",
		"not a number":  "report=begin\ncpus=two\nreport=end\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseReport(strings.NewReader(text))
			if err == nil {
				t.Fatal("no error")
			}
			if broken := name == "not key=value" || name == "not a number"; broken == errors.Is(err, ErrNoReport) {
				t.Errorf("errors.Is(%v, ErrNoReport) is %v", err, !broken)
			}
		})
	}
}
