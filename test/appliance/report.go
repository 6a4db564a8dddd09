package appliance

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Report is what the guest says of the machine it woke up in.
type Report struct {
	Kernel, Arch string
	// Firmware is "bios" or "efi".
	Firmware string
	// CPUs are those that run; Cores are those of one socket.
	CPUs, Sockets, Cores int
	// MemoryMiB is what the machine has, UsableKiB what the kernel got.
	MemoryMiB, UsableKiB int64
	UUID, Machine        string
	// Began and Ended are the guest's clock when it looked around, in seconds
	// since 1970.
	Began, Ended int64
	// Disks are in the order of their places: the kernel names them in the
	// order in which they happen to answer.
	Disks  []ReportedDisk
	CDROMs []ReportedCDROM
	NICs   []ReportedNIC
	// Environment is the OVF environment document that was found on a
	// CD-ROM, nil where there is none.
	Environment []byte
	// Lines is the report as it was written.
	Lines []string
}

// ReportedDisk is a disk that the guest found.
type ReportedDisk struct {
	Name, Driver, SHA256 string
	// PCI is the controller's address; Address is host:channel:target:lun,
	// "" for what is no SCSI disk to the guest.
	PCI, Address string
	Size         int64
}

// ReportedCDROM is a CD-ROM drive that the guest found.
type ReportedCDROM struct {
	Name, Driver string
	Files        []string
}

// ReportedNIC is a network card that the guest found.
type ReportedNIC struct {
	Name, Driver, MAC, PCI string
	// Address is what DHCP gave, "" where it was not asked.
	Address string
}

// ErrNoReport says that the guest did not get to the end of its report.
var ErrNoReport = errors.New("the guest gave no whole report")

// ParseReport reads a report from what came out of the serial port: what is
// before it (firmware, kernel) is passed over.
func ParseReport(r io.Reader) (*Report, error) {
	rep := &Report{}
	began, lines := false, 0
	s := bufio.NewScanner(r)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		line := strings.Trim(s.Text(), "\r\n")
		lines++
		// Firmware may leave the cursor in the middle of a line.
		if !began {
			began = strings.HasSuffix(line, "report=begin")
			continue
		}
		if line == "report=end" {
			slices.SortStableFunc(rep.Disks, ReportedDisk.compare)
			return rep, nil
		}
		rep.Lines = append(rep.Lines, line)
		if err := rep.take(line); err != nil {
			return rep, fmt.Errorf("line %d, %q: %w", lines, line, err)
		}
	}
	if err := s.Err(); err != nil {
		return rep, err
	}
	return rep, fmt.Errorf("%w (%d lines came)", ErrNoReport, lines)
}

func (rep *Report) take(line string) (err error) {
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return errors.New("not key=value")
	}
	part := strings.Split(key, ".")
	switch {
	case len(part) == 3 && part[0] == "disk":
		return found(&rep.Disks, part[1], func(d *ReportedDisk) *string { return &d.Name }).take(part[2], value)
	case len(part) == 3 && part[0] == "cdrom":
		return found(&rep.CDROMs, part[1], func(d *ReportedCDROM) *string { return &d.Name }).take(part[2], value)
	case len(part) == 3 && part[0] == "nic":
		return found(&rep.NICs, part[1], func(d *ReportedNIC) *string { return &d.Name }).take(part[2], value)
	}
	switch key {
	case "kernel":
		rep.Kernel = value
	case "arch":
		rep.Arch = value
	case "firmware":
		rep.Firmware = value
	case "cpus":
		rep.CPUs, err = strconv.Atoi(value)
	case "sockets":
		rep.Sockets, err = strconv.Atoi(value)
	case "cores":
		rep.Cores, err = strconv.Atoi(value)
	case "memory.mib":
		rep.MemoryMiB, err = strconv.ParseInt(value, 10, 64)
	case "memory.usable.kib":
		rep.UsableKiB, err = strconv.ParseInt(value, 10, 64)
	case "clock.begin":
		rep.Began, err = strconv.ParseInt(value, 10, 64)
	case "clock.end":
		rep.Ended, err = strconv.ParseInt(value, 10, 64)
	case "uuid":
		rep.UUID = value
	case "machine":
		rep.Machine = value
	case "environment":
		rep.Environment, err = base64.StdEncoding.DecodeString(value)
	}
	return err
}

// found gives the element of that name, new where there was none.
func found[E any](list *[]E, name string, field func(*E) *string) *E {
	i := slices.IndexFunc(*list, func(e E) bool { return *field(&e) == name })
	if i < 0 {
		i = len(*list)
		*list = append(*list, *new(E))
		*field(&(*list)[i]) = name
	}
	return &(*list)[i]
}

// compare orders disks by controller and by place on it.
func (d ReportedDisk) compare(e ReportedDisk) int {
	return cmp.Or(cmp.Compare(d.PCI, e.PCI), slices.Compare(numbers(d.Address), numbers(e.Address)), cmp.Compare(d.Name, e.Name))
}

// numbers gives the numbers of host:channel:target:lun.
func numbers(address string) []int {
	var list []int
	for part := range strings.SplitSeq(address, ":") {
		n, _ := strconv.Atoi(part) // what is no number is first
		list = append(list, n)
	}
	return list
}

func (d *ReportedDisk) take(key, value string) (err error) {
	switch key {
	case "size":
		d.Size, err = strconv.ParseInt(value, 10, 64)
	case "driver":
		d.Driver = value
	case "pci":
		d.PCI = value
	case "address":
		d.Address = value
	case "sha256":
		d.SHA256 = value
	}
	return err
}

func (d *ReportedCDROM) take(key, value string) error {
	switch key {
	case "driver":
		d.Driver = value
	case "files":
		d.Files = strings.Fields(value)
	}
	return nil
}

func (n *ReportedNIC) take(key, value string) error {
	switch key {
	case "driver":
		n.Driver = value
	case "mac":
		n.MAC = value
	case "pci":
		n.PCI = value
	case "address":
		n.Address = value
	}
	return nil
}
