package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// attack is one package that means harm. Its row in the table is made of what
// is tested.
type attack struct {
	name string // of the test
	what string // the attack, for people
	// make gives the archive, or makes its files in dir/work.
	make func(t *testing.T, dir string) []byte
	file string // its name, "" for a.ova
	code int
	says string // what is on stderr; where it is "", instead says what happens
	// instead is for the page only.
	instead string
	// commands end with code and say says; inspect, verify and run --dry-run
	// where there are none.
	commands []string
	// also end with code and say so in their own words.
	also []string
	// once and web say that a disk that arrives on standard input, or from a
	// web server, is to be refused in the same words.
	once, web bool
	// thorough says that all other commands are tried as well, where commands
	// are nil: each of them ends as these do.
	thorough bool
}

// everything is all that can be done with a package. Where an attack's commands
// are not among them, all are tried on it: they may end as they like, but harm
// nothing. NAME is the package, and what they write begins with out.
var everything = []string{
	"inspect NAME", "inspect --json NAME", "verify NAME", "verify --deep NAME", "lint NAME", "lint --json NAME", "fit NAME --to qemu", "spec NAME", "diff NAME NAME", "run --dry-run NAME",
	"convert NAME -o out.ova --for kvm", "edit NAME -o out.ova --name x", "unpack NAME -o out", "pack NAME -o out.ova",
	"sign NAME -o out.ova --chunks", "encrypt NAME -o out.ova --password-file ../outside", "decrypt NAME -o out --password-file ../outside",
	"nbd NAME --run true", "disk info NAME#d", "disk check NAME#d", "disk map NAME#d", "disk compare NAME#d NAME#d", "disk convert NAME#d out.qcow2",
}

// makers make another package of one.
var makers = []string{"convert NAME -o out.ova --for kvm", "edit NAME -o out.ova --name x", "sign NAME -o out.ova --chunks", "encrypt NAME -o out.ova --password-file ../outside"}

type member struct {
	name string
	data []byte
	kind byte
	link string
}

func archive(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.data)), Mode: 0o644, Typeflag: m.kind, Linkname: m.link}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// header is a raw header: name and the size field are written as they are.
func header(name string, size []byte, kind byte) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:136], size)
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 8 * int(' ')
	for i, b := range h {
		if i < 148 || i > 155 {
			sum += int(b)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&511)...) }

// raw puts a raw header, and what follows it, behind a sound descriptor.
func raw(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	d := []byte(sound)
	out := append(header("a.ovf", fmt.Appendf(nil, "%011o\x00", len(d)), '0'), padded(d)...)
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, make([]byte, 1024)...)
}

const (
	open = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"` +
		` xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">`
	hardware = `<VirtualHardwareSection><Info>h</Info><Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>20</rasd:ResourceType></Item>` +
		`<Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>1</rasd:Parent>` +
		`<rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource></Item></VirtualHardwareSection>`
	system = `<VirtualSystem ovf:id="a"><Info>A</Info>` + hardware + `</VirtualSystem></Envelope>`
)

// describe is a descriptor of one disk in one file.
func describe(fileAttrs, format string) string {
	return open + `<References><File ovf:id="f" ` + fileAttrs + `/></References><DiskSection><Info>D</Info>` +
		`<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576" ovf:format="` + format + `"/></DiskSection>` + system
}

const vmdkFormat = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

var sound = describe(`ovf:href="disk.raw"`, "http://www.example.com/raw")

func withDescriptor(text string, more ...member) func(*testing.T, string) []byte {
	return func(t *testing.T, _ string) []byte {
		return archive(t, append([]member{{name: "a.ovf", data: []byte(text)}}, more...)...)
	}
}

func with(members ...member) func(*testing.T, string) []byte {
	return withDescriptor(sound, members...)
}

// withDisk is a package of one file and a descriptor of it.
func withDisk(name, format string, data func() []byte) func(*testing.T, string) []byte {
	return func(t *testing.T, _ string) []byte {
		return archive(t, member{name: "a.ovf", data: []byte(describe(`ovf:href="`+name+`"`, format))}, member{name: name, data: data()})
	}
}

func named(name string) func(*testing.T, string) []byte {
	return func(t *testing.T, _ string) []byte {
		return raw(t, header(name, []byte("00000000003\x00"), '0'), padded([]byte("abc")))
	}
}

func kind(kind byte) func(*testing.T, string) []byte {
	return with(member{name: "evil", kind: kind, link: "../outside"})
}

func line(name string, data []byte) string {
	return fmt.Sprintf("SHA256(%s)= %x\n", name, sha256.Sum256(data))
}

// manifested is a package of a descriptor, a disk and the manifest that is made
// of the lines for both and more.
func manifested(more string, omit bool) func(*testing.T, string) []byte {
	return func(t *testing.T, _ string) []byte {
		disk := make([]byte, 4096)
		text := line("a.ovf", []byte(sound))
		if !omit {
			text += line("disk.raw", disk)
		}
		return archive(t, member{name: "a.ovf", data: []byte(sound)}, member{name: "a.mf", data: []byte(text + more)}, member{name: "disk.raw", data: disk})
	}
}

func bomb(n int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(make([]byte, n))
	_ = z.Close()
	return b.Bytes()
}

// chunked is a package of a file of 3,000 bytes in chunks of 1,000.
func chunked(names map[string]int) func(*testing.T, string) []byte {
	return func(t *testing.T, _ string) []byte {
		members := []member{{name: "a.ovf", data: []byte(describe(`ovf:href="disk.raw" ovf:size="3000" ovf:chunkSize="1000"`, "http://www.example.com/raw"))}}
		for i := range 9 {
			name := fmt.Sprintf("disk.raw.%09d", i)
			if n, ok := names[name]; ok {
				members = append(members, member{name: name, data: make([]byte, n)})
			}
		}
		return archive(t, members...)
	}
}

// piece is a chunk with a name's number and a content.
func piece(name, content int) member {
	return member{name: fmt.Sprintf("disk.raw.%09d", name), data: bytes.Repeat([]byte{byte(content)}, 1000)}
}

// pieces is a package of a file in three chunks, with the manifest of these, in
// which they stand under each other's names.
func pieces(contents ...int) []member {
	if contents == nil {
		contents = []int{0, 1, 2}
	}
	descriptor := []byte(describe(`ovf:href="disk.raw" ovf:size="3000" ovf:chunkSize="1000"`, "http://www.example.com/raw"))
	text := line("a.ovf", descriptor)
	var chunks []member
	for i, c := range contents {
		text += line(piece(i, i).name, piece(i, i).data)
		chunks = append(chunks, piece(i, c))
	}
	return append([]member{{name: "a.ovf", data: descriptor}, {name: "a.mf", data: []byte(text)}}, chunks...)
}

func qcow2(backing string) []byte {
	b := make([]byte, 1<<18)
	copy(b, "QFI\xfb")
	put := binary.BigEndian
	put.PutUint32(b[4:], 2)
	put.PutUint64(b[8:], 1024)
	put.PutUint32(b[16:], uint32(len(backing)))
	put.PutUint32(b[20:], 16)
	put.PutUint64(b[24:], 1<<20)
	put.PutUint32(b[36:], 1)
	put.PutUint64(b[40:], 1<<16)
	put.PutUint64(b[48:], 2<<16)
	put.PutUint32(b[56:], 1)
	copy(b[1024:], backing)
	put.PutUint64(b[2<<16:], 3<<16)
	return b
}

func flat(extent string) func() []byte {
	return func() []byte {
		return []byte("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\nRW 2048 FLAT \"" + extent + "\" 0\n" +
			"ddb.adapterType = \"ide\"\n")
	}
}

var disks = []string{"disk info NAME#d", "disk convert NAME#d out.qcow2"}

// disksToo end as disks do where a disk is what harms.
var disksToo = []string{"run --dry-run NAME", "convert NAME -o out.ova --for kvm", "nbd NAME --run true", "verify --deep NAME"}

func text(s string) func(*testing.T, string) []byte {
	return func(*testing.T, string) []byte { return []byte(s) }
}

// attacks is the corpus.
var attacks = slices.Concat(basic, further)

// basic are attacks on archives, manifests and descriptors.
var basic = []attack{
	{name: "absolute", thorough: true, what: "an entry with an absolute name", make: named("/etc/evil"), code: 3, says: "is absolute"},
	{name: "dotdot", what: "an entry whose name climbs with `..`", make: named("x/../../evil"), code: 3, says: "leads out of the package"},
	{name: "drive", what: "an entry whose name begins with a drive letter", make: named("C:evil"), code: 3, says: "begins with a drive letter"},
	{name: "backslash", what: "an entry whose name holds a backslash", make: named(`..\evil`), code: 3, says: "leads elsewhere on some systems"},
	{name: "nul", what: "an entry whose name holds NUL (in a PAX record)", make: func(t *testing.T, _ string) []byte {
		record := "16 path=a\x00../evil\n"
		record = fmt.Sprintf("%d%s", len(record), record[2:])
		return raw(t, header("x", fmt.Appendf(nil, "%011o\x00", len(record)), 'x'), padded([]byte(record)), header("b", []byte("00000000000\x00"), '0'))
	}, code: 3, says: "damaged"},
	{name: "newline", what: "an entry whose name holds a line feed", make: named("a\nb"), code: 3, says: "holds characters that no name may have"},
	{name: "symlink", thorough: true, what: "a symbolic link", make: kind(tar.TypeSymlink), code: 3, says: "is a link"},
	{name: "hardlink", what: "a hard link", make: kind(tar.TypeLink), code: 3, says: "is a link"},
	{name: "device", what: "a device", make: kind(tar.TypeBlock), code: 3, says: "is a device"},
	{name: "fifo", what: "a FIFO", make: kind(tar.TypeFifo), code: 3, says: "is a FIFO"},
	{name: "folder-link", what: "a link in a folder that leads out of it", file: "a.ovf", make: func(t *testing.T, dir string) []byte {
		if err := os.Symlink("../outside", filepath.Join(dir, "work", "disk.raw")); err != nil {
			t.Fatal(err)
		}
		return []byte(sound)
	}, code: 4, says: "disk.raw", commands: []string{"verify NAME"}},
	{name: "twice", thorough: true, what: "two entries of one name", make: with(member{name: "disk.raw", data: []byte("1")}, member{name: "disk.raw", data: []byte("2")}), code: 3, says: `"disk.raw" twice`},
	{name: "case", what: "two entries whose names differ in case only", make: with(member{name: "disk.raw", data: []byte("1")}, member{name: "DISK.raw", data: []byte("2")}), code: 3, says: "one file where case does not count"},
	{name: "manifest-other", what: "a manifest that names a file that is not there", make: manifested(line("other", nil), false), code: 4, says: "other is missing", commands: []string{"verify NAME"}, also: append(makers, "run --dry-run NAME")},
	{name: "manifest-outside", thorough: true, what: "a manifest that names a file outside", make: manifested(line("../outside", nil), false), code: 3, says: "leads out of the package"},
	{name: "manifest-self", what: "a manifest that names itself", make: manifested(line("a.mf", nil), false), code: 3, says: "gives a digest of a.mf, which cannot be"},
	{name: "manifest-twice", what: "a manifest with two digests of one file", make: manifested(line("a.ovf", nil), false), code: 3, says: "has a digest in line 1 already"},
	{name: "manifest-lacks", what: "a manifest without a digest of a disk", make: manifested("", true), code: 4, says: "disk.raw has no digest in the manifest", commands: []string{"verify NAME"}, also: append(makers, "run --dry-run NAME")},
	{name: "two-descriptors", thorough: true, what: "two descriptors", make: with(member{name: "b.ovf", data: []byte(sound)}), code: 3, says: "several descriptors"},
	{name: "late-descriptor", what: "a descriptor after the disks, in what can be read once only", make: func(t *testing.T, _ string) []byte {
		return archive(t, member{name: "disk.raw", data: make([]byte, 4096)}, member{name: "a.ovf", data: []byte(sound)})
	}, code: 0, instead: "a note; `run -` refuses it with 3, since it cannot be used as it arrives", commands: []string{"inspect NAME", "verify NAME"}},
	{name: "sparse", what: "a sparse file of GNU tar", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("disk.raw", []byte("00000000000\x00"), 'S'))
	}, code: 3, says: "not a valid OVF package"},
	{name: "pax-sparse", what: "a sparse file in PAX records", make: func(t *testing.T, _ string) []byte {
		record := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
		return raw(t, header("x", fmt.Appendf(nil, "%011o\x00", len(record)), 'x'), padded([]byte(record)), header("disk.raw", []byte("00000000000\x00"), '0'))
	}, code: 3, says: "not a valid OVF package"},
	{name: "pax-size", what: "a PAX record whose size is not the header's", make: func(t *testing.T, _ string) []byte {
		record := "21 size=99999999999\n"
		record = fmt.Sprintf("%d%s", len(record), record[2:])
		return raw(t, header("x", fmt.Appendf(nil, "%011o\x00", len(record)), 'x'), padded([]byte(record)), header("disk.raw", []byte("00000000000\x00"), '0'))
	}, code: 3, says: "cut short"},
	{name: "too-long", what: "an entry larger than the archive", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("disk.raw", []byte("00000400000\x00"), '0'))
	}, code: 3, says: "cut short"},
	{name: "octal-8g", what: "a size of nearly 8 GiB in octal digits", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("disk.raw", []byte("77777777777\x00"), '0'))
	}, code: 3, says: "cut short"},
	{name: "base256", thorough: true, what: "a size of 8 EiB less 1 in base 256", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("disk.raw", []byte("\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), '0'))
	}, code: 3, says: "cut short"},
	{name: "negative", what: "a size that is negative in base 256", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("disk.raw", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), '0'))
	}, code: 3, says: "not a valid OVF package"},
	{name: "size-lies", what: "`ovf:size` that is not the file's", make: withDescriptor(describe(`ovf:href="disk.raw" ovf:size="99"`, "raw"), member{name: "disk.raw", data: make([]byte, 512)}), code: 4, says: "disk.raw has 512 bytes, and the descriptor says 99", commands: []string{"verify NAME"}},
	{name: "gzip-bomb", once: true, web: true, what: "a gzip bomb: 200 MiB for a disk of 1 MiB", make: func(t *testing.T, _ string) []byte {
		return archive(t, member{name: "a.ovf", data: []byte(describe(`ovf:href="disk.raw" ovf:compression="gzip"`, "raw"))}, member{name: "disk.raw", data: bomb(200 << 20)})
	}, code: 3, says: "it unpacks to more than", commands: disks[1:]},
	{name: "chunk-missing", what: "a chunk that is missing", make: chunked(map[string]int{"disk.raw.000000000": 1000, "disk.raw.000000002": 1000}), code: 4, says: "disk.raw is missing", commands: []string{"verify NAME"}},
	{name: "chunk-large", what: "a chunk larger than chunks are", make: chunked(map[string]int{"disk.raw.000000000": 5000}), code: 3, says: "the chunk has 5000 bytes, and chunks have 1000", commands: []string{"verify NAME"}},
	{name: "chunk-short", what: "a chunk in the middle that is short", make: chunked(map[string]int{"disk.raw.000000000": 1000, "disk.raw.000000001": 10, "disk.raw.000000002": 990}), code: 4, says: "the chunk has 10 bytes", commands: []string{"verify NAME"}},
	{name: "chunk-twice", what: "a chunk that is there twice", make: func(t *testing.T, _ string) []byte {
		return archive(t, append(pieces(), piece(1, 1))...)
	}, code: 3, says: `"disk.raw.000000001" twice`},
	{name: "chunk-swapped", what: "chunks out of order: each has the name of the other", make: func(t *testing.T, _ string) []byte {
		return archive(t, pieces(1, 0, 2)...)
	}, code: 4, says: "disk.raw.000000000 was altered", commands: []string{"verify NAME"}},
	{name: "entities", thorough: true, what: "an XML entity bomb", file: "a.ovf", make: text(`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + strings.Replace(sound, "<Info>A<", "<Info>&b;<", 1)), code: 3, says: "a.ovf"},
	{name: "external", what: "an external XML entity", file: "a.ovf", make: text(`<!DOCTYPE x [<!ENTITY a SYSTEM "../outside">]>` + strings.Replace(sound, "<Info>A<", "<Info>&a;<", 1)), code: 3, says: "a.ovf"},
	{name: "deep", what: "XML that nests 100,000 deep", file: "a.ovf", make: text(open + strings.Repeat("<a>", 100_000)), code: 3, says: "nest deeper than the limit"},
	{name: "million", thorough: true, what: "a million hardware items", file: "a.ovf", make: text(open + strings.Repeat("<Item/>", 1_000_000) + "</Envelope>"), code: 3, says: "more elements and attributes than the limit of 150000"},
	{name: "million-attributes", what: "an element with a million attributes", file: "a.ovf", make: func(*testing.T, string) []byte {
		var b bytes.Buffer
		b.WriteString("<Envelope")
		for i := range 1_000_000 {
			fmt.Fprintf(&b, " a%d=''", i)
		}
		return append(b.Bytes(), "/>"...)
	}, code: 3, says: "than the limit of 150000"},
	{name: "large-descriptor", what: "a descriptor of 17 MiB", file: "a.ovf", make: text(sound + strings.Repeat(" ", 17<<20)), code: 3, says: "over the limit of 16777216"},
	{name: "vmdk-host", what: "a VMDK whose extent is a host's file", make: withDisk("disk.vmdk", vmdkFormat, flat("/etc/passwd")), code: 3, says: "/etc/passwd", commands: disks, also: disksToo},
	{name: "vmdk-up", what: "a VMDK whose extent lies above the package", make: withDisk("disk.vmdk", vmdkFormat, flat("../outside")), code: 3, says: "../outside", commands: disks, also: disksToo},
	{name: "qcow2-host", what: "a qcow2 image whose backing file is a host's", make: withDisk("disk.qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html", func() []byte { return qcow2("/etc/passwd") }), code: 3, says: "/etc/passwd", commands: disks, also: disksToo},
	{name: "qcow2-url", what: "a qcow2 image whose backing file is a URL", make: withDisk("disk.qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html", func() []byte { return qcow2("http://127.0.0.1:1/x") }), code: 3, says: "http://127.0.0.1:1/x", commands: disks, also: disksToo},
	{name: "qcow2-json", what: "a qcow2 image whose backing file is QEMU's `json:`", make: withDisk("disk.qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html", func() []byte { return qcow2(`json:{"file.filename":"/etc/passwd"}`) }), code: 3, says: "json:", commands: disks, also: disksToo},
	{name: "href-host", what: "an href that names another host", make: withDescriptor(describe(`ovf:href="http://127.0.0.1:1/disk.raw"`, "raw")), code: 3, says: "files of other places are not fetched", commands: []string{"verify NAME", "disk info NAME#d"}, also: disksToo},
	{name: "href-file", what: "an href that is a file:// URL", make: withDescriptor(describe(`ovf:href="file:///etc/passwd"`, "raw")), code: 3, says: "files of other places are not fetched", commands: []string{"verify NAME", "disk info NAME#d"}, also: disksToo},
	{name: "href-up", what: "an href that climbs", make: withDescriptor(describe(`ovf:href="%2e%2e/outside"`, "raw")), code: 3, says: "outside", commands: []string{"verify NAME", "disk info NAME#d"}, also: disksToo},
	{name: "padding", what: "a bit flipped in the padding between files", make: func(t *testing.T, d string) []byte {
		b := manifested("", false)(t, d)
		return bytes.Replace(b, []byte("</Envelope>\x00"), []byte("</Envelope>\x01"), 1)
	}, code: 4, says: "is not zero", commands: []string{"verify NAME"}},
	{name: "escapes", what: "names and texts that hold terminal escapes", make: withDescriptor(strings.ReplaceAll(describe(`ovf:href="a&#x9b;31mb"`, "raw"), "<Info>A<", "<Info>&#x9b;2J&#x202e;<")), code: 4, says: "is missing", commands: []string{"verify NAME"}},
	{name: "empty", what: "an archive of zeros", make: func(*testing.T, string) []byte { return make([]byte, 10240) }, code: 3, says: "not a valid OVF package"},
	{name: "noise", what: "what is no archive", make: func(*testing.T, string) []byte { return bytes.Repeat([]byte("noise\n"), 3000) }, code: 3, says: "neither a descriptor nor a tar file"},
}
