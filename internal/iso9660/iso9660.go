// Package iso9660 writes small CD-ROM images: files in one folder, with the
// names of ISO 9660 (ECMA-119) and, for what reads them, those of Joliet.
package iso9660

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// Sector is the size of a CD-ROM's sectors in bytes.
const Sector = 2048

// Limits that keep to what the format can say and one sector of names holds.
const (
	maxFiles = 16
	maxName  = 64 // UTF-16 units, Joliet's limit
	maxLabel = 16 // of Joliet; 32 of ISO 9660
	maxSize  = 1 << 30
)

// File is one file of an image.
type File struct {
	// Name is the file's; ISO 9660 itself gets one made from it.
	Name string
	Data []byte
}

// Where things lie, in sectors.
const (
	primaryAt    = 16
	jolietAt     = 17
	terminatorAt = 18
	pathTablesAt = 19 // little and big endian, of each
	primaryRoot  = 23
	jolietRoot   = 24
	filesAt      = 25
)

// Write writes an image. The same arguments give the same bytes.
func Write(w io.Writer, label string, made time.Time, files ...File) error {
	if len(files) > maxFiles {
		return fmt.Errorf("iso9660: %d files, the limit is %d", len(files), maxFiles)
	}
	if len(label) > maxLabel {
		return fmt.Errorf("iso9660: the label %q is longer than %d", label, maxLabel)
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var total int64
	plain, joliet := make([]entry, len(files)), make([]entry, len(files))
	seen := map[string]bool{}
	at := uint32(filesAt)
	for i, f := range files {
		wide := utf16.Encode([]rune(f.Name))
		name := plainName(f.Name)
		if f.Name == "" || len(wide) > maxName || strings.ContainsAny(f.Name, "/\\:;*?\x00") {
			return fmt.Errorf("iso9660: the name %q can't be on a CD-ROM", f.Name)
		}
		if seen[name] {
			return fmt.Errorf("iso9660: two names become %q", name)
		}
		seen[name] = true
		if total += int64(len(f.Data)); total > maxSize {
			return fmt.Errorf("iso9660: more than %d bytes of files", int64(maxSize))
		}
		plain[i] = entry{[]byte(name), at, uint32(len(f.Data))}
		joliet[i] = entry{bigEndian(wide), at, uint32(len(f.Data))}
		at += sectors(len(f.Data))
	}
	// ECMA-119 9.3: records go up by name.
	slices.SortFunc(plain, func(a, b entry) int { return strings.Compare(string(a.name), string(b.name)) })
	slices.SortFunc(joliet, func(a, b entry) int { return strings.Compare(string(a.name), string(b.name)) })

	image := make([]byte, filesAt*Sector)
	part := func(sector int) []byte { return image[sector*Sector : (sector+1)*Sector] }
	descriptor(part(primaryAt), 1, pad([]byte(label), 32, ' '), at, pathTablesAt, primaryRoot, made)
	d := part(jolietAt)
	descriptor(d, 2, padWide(label, 32), at, pathTablesAt+2, jolietRoot, made)
	copy(d[88:], "%/E") // UCS-2 level 3
	copy(part(terminatorAt), "\xffCD001\x01")
	for i, root := range []uint32{primaryRoot, jolietRoot} {
		little, big := part(pathTablesAt+2*i), part(pathTablesAt+2*i+1)
		little[0], big[0] = 1, 1
		binary.LittleEndian.PutUint32(little[2:], root)
		binary.BigEndian.PutUint32(big[2:], root)
		binary.LittleEndian.PutUint16(little[6:], 1)
		binary.BigEndian.PutUint16(big[6:], 1)
	}
	directory(part(primaryRoot), primaryRoot, plain, made)
	directory(part(jolietRoot), jolietRoot, joliet, made)
	if _, err := w.Write(image); err != nil {
		return err
	}
	for _, f := range files {
		if _, err := w.Write(f.Data); err != nil {
			return err
		}
		if rest := int(sectors(len(f.Data)))*Sector - len(f.Data); rest > 0 {
			if _, err := w.Write(make([]byte, rest)); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry is a file as a directory names it.
type entry struct {
	name         []byte
	sector, size uint32
}

func sectors(n int) uint32 { return uint32((n + Sector - 1) / Sector) }

// plainName is a name of ISO 9660's first level: eight letters, digits and
// underlines, three for the ending, and a version.
func plainName(name string) string {
	clean := func(s string, n int) string {
		s = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r - 'a' + 'A'
			}
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, s)
		return s[:min(n, len(s))]
	}
	ending := ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name, ending = name[:i], name[i+1:]
	}
	return clean(name, 8) + "." + clean(ending, 3) + ";1"
}

func pad(b []byte, n int, with byte) []byte {
	b = slices.Clone(b)
	for len(b) < n {
		b = append(b, with)
	}
	return b
}

func bigEndian(wide []uint16) []byte {
	var b []byte
	for _, u := range wide {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}

func padWide(s string, n int) []byte {
	b := bigEndian(utf16.Encode([]rune(s)))
	for len(b) < n {
		b = append(b, 0, ' ')
	}
	return b
}

// both writes a number in both byte orders, as ISO 9660 does.
func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

// descriptor fills a volume descriptor (ECMA-119 8.4, 8.5).
func descriptor(b []byte, kind byte, label []byte, size, pathTables, root uint32, made time.Time) {
	wide := kind == 2
	blank := func(from, to int) {
		for i := from; i < to; i++ {
			b[i] = ' '
			if wide && (i-from)%2 == 0 {
				b[i] = 0
			}
		}
	}
	b[0] = kind
	copy(b[1:], "CD001\x01")
	blank(8, 40)
	copy(b[40:72], label)
	both32(b[80:], size)
	both16(b[120:], 1) // one volume,
	both16(b[124:], 1) // the first,
	both16(b[128:], Sector)
	both32(b[132:], 10) // the path table's length: the root alone
	binary.LittleEndian.PutUint32(b[140:], pathTables)
	binary.BigEndian.PutUint32(b[148:], pathTables+1)
	record(b[156:], []byte{0}, root, Sector, true, made)
	blank(190, 813)
	for _, at := range []int{813, 830} { // made, changed
		copy(b[at:], made.UTC().Format("20060102150405")+"00\x00")
	}
	for _, at := range []int{847, 864} { // no end, no beginning
		copy(b[at:], strings.Repeat("0", 16)+"\x00")
	}
	b[881] = 1
}

// directory fills the root: itself, its parent, which is itself, and files.
func directory(b []byte, root uint32, entries []entry, made time.Time) {
	n := record(b, []byte{0}, root, Sector, true, made)
	n += record(b[n:], []byte{1}, root, Sector, true, made)
	for _, e := range entries {
		n += record(b[n:], e.name, e.sector, e.size, false, made)
	}
}

// record fills a directory record (ECMA-119 9.1) and gives its length.
func record(b, name []byte, sector, size uint32, folder bool, made time.Time) int {
	length := (33 + len(name) + 1) &^ 1
	t := made.UTC()
	b[0] = byte(length)
	both32(b[2:], sector)
	both32(b[10:], size)
	copy(b[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	if folder {
		b[25] = 2
	}
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return length
}
