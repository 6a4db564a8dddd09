package hostile

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
)

// zeros is what 200 MiB of zeros are compressed to.
func zeros(t *testing.T, compress func(*bytes.Buffer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := compress(&b)
	if err != nil {
		t.Fatal(err)
	}
	some := make([]byte, 1<<20)
	for range 200 {
		if _, err := z.Write(some); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zstdBomb is a disk of 1 MiB by its descriptor, which says nothing of how it is
// compressed.
func zstdBomb(t *testing.T, _ string) []byte {
	z := zeros(t, func(b *bytes.Buffer) (io.WriteCloser, error) { return zstd.NewWriter(b) })
	return archive(t, member{name: "a.ovf", data: []byte(sound)}, member{name: "disk.raw", data: z})
}

// grainBomb is a streamOptimized VMDK of one grain of 64 KiB, whose deflate stream
// holds 200 MiB.
func grainBomb(t *testing.T, _ string) []byte {
	z := zeros(t, func(b *bytes.Buffer) (io.WriteCloser, error) { return zlib.NewWriterLevel(b, zlib.BestCompression) })
	return archive(t, member{name: "a.ovf", data: []byte(describe(`ovf:href="disk.vmdk"`, vmdkFormat))}, member{name: "disk.vmdk", data: streamOptimized(z)})
}

// tailBomb is a sound streamOptimized VMDK with 200 MiB behind its end, compressed
// by gzip.
func tailBomb(t *testing.T, _ string) []byte {
	var grain bytes.Buffer
	z := zlib.NewWriter(&grain)
	if _, err := z.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	disk := streamOptimized(grain.Bytes())
	b := zeros(t, func(b *bytes.Buffer) (io.WriteCloser, error) {
		w := gzip.NewWriter(b)
		_, err := w.Write(disk)
		return w, err
	})
	return archive(t, member{name: "a.ovf", data: []byte(describe(`ovf:href="disk.vmdk" ovf:compression="gzip"`, vmdkFormat))}, member{name: "disk.vmdk", data: b})
}

// streamOptimized is an image of 1 MiB whose first grain is stored in z.
func streamOptimized(z []byte) []byte {
	le := binary.LittleEndian
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&511)...) }
	descriptor := "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\nRW 2048 SPARSE \"disk.vmdk\"\n"
	header := func(directory uint64) []byte {
		h := make([]byte, 512)
		copy(h, "KDMV")
		le.PutUint32(h[4:], 3)
		le.PutUint32(h[8:], 0x30001)
		le.PutUint64(h[12:], 2048) // sectors
		le.PutUint64(h[20:], 128)  // of a grain
		le.PutUint64(h[28:], 1)    // the descriptor
		le.PutUint64(h[36:], 1)
		le.PutUint32(h[44:], 512)
		le.PutUint64(h[56:], directory)
		le.PutUint64(h[64:], 128)
		copy(h[73:], "\n \r\n")
		le.PutUint16(h[77:], 1)
		return h
	}
	marker := func(sectors uint64, kind uint32) []byte {
		m := make([]byte, 512)
		le.PutUint64(m, sectors)
		le.PutUint32(m[12:], kind)
		return m
	}
	out := append(header(1<<64-1), pad([]byte(descriptor))...)
	out = append(out, make([]byte, 128*512-len(out))...)
	grain := make([]byte, 12, 12+len(z))
	le.PutUint32(grain[8:], uint32(len(z)))
	out = append(out, pad(append(grain, z...))...)
	table := make([]byte, 2048)
	le.PutUint32(table, 128)
	out = append(append(out, marker(4, 1)...), table...)
	at := uint32(len(out)/512 - 4)
	directory := make([]byte, 512)
	le.PutUint32(directory, at)
	out = append(append(out, marker(1, 2)...), directory...)
	footer := header(uint64(len(out)/512 - 1))
	out = append(append(out, marker(1, 3)...), footer...)
	return append(out, make([]byte, 512)...)
}

// qcow2Data is a qcow2 image whose clusters are in another file.
func qcow2Data() []byte {
	b := qcow2("")
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint64(b[8:], 0)
	be.PutUint64(b[72:], 4) // incompatible: an external data file
	be.PutUint32(b[96:], 4) // bits of a reference count
	be.PutUint32(b[100:], 104)
	be.PutUint32(b[104:], 0x44415441)
	name := "../outside"
	be.PutUint32(b[108:], uint32(len(name)))
	copy(b[112:], name)
	return b
}

// cycle are two disks each of which is a delta of the other.
func cycle(t *testing.T, _ string) []byte {
	text := strings.Replace(sound, `<Disk ovf:diskId="d"`, `<Disk ovf:diskId="e" ovf:fileRef="f" ovf:capacity="1048576" ovf:parentRef="d"/><Disk ovf:diskId="d" ovf:parentRef="e"`, 1)
	return archive(t, member{name: "a.ovf", data: []byte(text)}, member{name: "disk.raw", data: make([]byte, 4096)})
}

// digestsThatLie is a package whose chunk digests are of a file of 4 EiB.
func digestsThatLie(t *testing.T, _ string) []byte {
	text := []byte(strings.Replace(sound, "</References>", `<File ovf:id="c" ovf:href="a.chunks"/></References>`, 1))
	disk := make([]byte, 4096)
	l := chunkdigest.List{}
	chunks := bytes.Replace((&l).Marshal(), []byte("\n"), []byte("\nfile 4611686018427387904 disk.raw\n"), 1)
	mf := line("a.ovf", text) + line("disk.raw", disk) + line("a.chunks", chunks)
	return archive(t, member{name: "a.ovf", data: text}, member{name: "a.mf", data: []byte(mf)}, member{name: "disk.raw", data: disk}, member{name: "a.chunks", data: chunks})
}

// sealed is a package whose key takes years to derive.
func sealed(t *testing.T, _ string) []byte {
	const xenc = `xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" xmlns:xenc11="http://www.w3.org/2009/xmlenc11#"`
	text := strings.Replace(sound, `<File ovf:id="f" ovf:href="disk.raw"/>`, `<File ovf:id="f" ovf:href="disk.raw"><xenc:EncryptedData `+xenc+` Id="x"><xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>`+
		`<xenc:CipherData><xenc:CipherReference URI="disk.raw"/></xenc:CipherData></xenc:EncryptedData></File>`, 1)
	text = strings.Replace(text, "</References>", `</References><EncryptionSection `+xenc+`><Info/><xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm="http://www.w3.org/2009/xmlenc11#pbkdf2"><xenc11:PBKDF2-params>`+
		`<xenc11:Salt><xenc11:Specified>AAECAwQFBgc=</xenc11:Specified></xenc11:Salt><xenc11:IterationCount>2000000000</xenc11:IterationCount><xenc11:KeyLength>16</xenc11:KeyLength>`+
		`<xenc11:PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"/></xenc11:PBKDF2-params></xenc11:KeyDerivationMethod><xenc:ReferenceList><xenc:DataReference URI="#x"/></xenc:ReferenceList></xenc11:DerivedKey></EncryptionSection>`, 1)
	return archive(t, member{name: "a.ovf", data: []byte(text)}, member{name: "disk.raw", data: make([]byte, 64)})
}

// idsThatLead is a package whose IDs and names would be paths, lines and options.
func idsThatLead(t *testing.T, _ string) []byte {
	text := strings.NewReplacer(`ovf:id="a"`, `ovf:id="../../outside"`, `ovf:diskId="d"`, `ovf:diskId="../outside,file=/etc/passwd"`, "ovf:/disk/d", "ovf:/disk/../outside,file=/etc/passwd",
		"<Info>A</Info>", "<Info>A</Info><Name>x&#10;-drive file=/etc/passwd&#x9b;31m</Name>").Replace(sound)
	return archive(t, member{name: "a.ovf", data: []byte(text)}, member{name: "disk.raw", data: make([]byte, 1<<20)})
}

// longNames is a descriptor in which names of megabytes are referred to by tens of
// thousands of items, and stand in tables of as many lines.
func longNames(*testing.T, string) []byte {
	long := strings.Repeat("w", 3<<20)
	var files, items strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&files, `<File ovf:id="g%d" ovf:href="g%d"/>`, i, i)
		fmt.Fprintf(&items, `<Item><rasd:InstanceID>i%d</rasd:InstanceID><rasd:Parent>c</rasd:Parent><rasd:ResourceType>14</rasd:ResourceType></Item>`, i)
	}
	return []byte(strings.NewReplacer("</References>", `<File ovf:id="w" ovf:href="`+long+`"/>`+files.String()+"</References>",
		"</VirtualHardwareSection>", "<Item><rasd:ElementName>"+long+"</rasd:ElementName><rasd:InstanceID>c</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>"+items.String()+"</VirtualHardwareSection>").Replace(sound))
}

// manyValues is a descriptor at the limits of a descriptor, all of it in what a
// specification has keys for.
func manyValues(*testing.T, string) []byte {
	var items strings.Builder
	for i := range 33_000 {
		fmt.Fprintf(&items, `<Item><rasd:Description>d</rasd:Description><rasd:InstanceID>i%d</rasd:InstanceID><rasd:ResourceType>1</rasd:ResourceType></Item>`, i)
	}
	return []byte(strings.Replace(sound, "</VirtualHardwareSection>", items.String()+"</VirtualHardwareSection>", 1))
}

// further are attacks on what is built upon packages: disks, digests, keys.
var further = []attack{
	{name: "pax-large", what: "a PAX record of 8 GiB", make: func(t *testing.T, _ string) []byte {
		return raw(t, header("x", []byte("77777777777\x00"), 'x'), padded([]byte("20 path=a\n")))
	}, code: 3, says: "not a valid OVF package"},
	{name: "folder-fifo", what: "a FIFO in a folder, in the place of a disk", file: "a.ovf", make: func(t *testing.T, dir string) []byte {
		if err := syscall.Mkfifo(filepath.Join(dir, "work", "disk.raw"), 0o600); err != nil {
			t.Fatal(err)
		}
		return []byte(sound)
	}, code: 4, says: "disk.raw is missing", commands: []string{"verify NAME"}, also: append(makers, "run --dry-run NAME", "nbd NAME --run true")},
	{name: "descriptor-link", what: "a descriptor in a folder that is a link to a file outside", file: "none", make: func(t *testing.T, dir string) []byte {
		if err := os.Symlink("../outside", filepath.Join(dir, "work", "a.ovf")); err != nil {
			t.Fatal(err)
		}
		return nil
	}, code: 3, says: "a.ovf", commands: []string{"inspect a.ovf", "verify a.ovf", "lint a.ovf", "convert a.ovf -o out.ova --for kvm"}},
	{name: "zstd-bomb", once: true, web: true, what: "a Zstandard bomb: 200 MiB for a disk of 1 MiB, without a word of it in the descriptor", make: zstdBomb, code: 3, says: "it unpacks to more than", commands: disks[1:], also: []string{"nbd NAME --run true", "convert NAME -o out.ova --for kvm"}},
	{name: "tail-bomb", web: true, what: "a gzip bomb behind the end of a sound disk: 200 MiB for one of 1 MiB", make: tailBomb, code: 3, says: "it unpacks to more than", commands: disks[1:], also: []string{"convert NAME -o out.ova --for kvm"}},
	{name: "grain-bomb", what: "a deflate bomb: 200 MiB in a grain of 64 KiB", make: grainBomb, code: 4, says: "grain", commands: []string{"disk convert NAME#d out.raw"}, also: []string{"disk check NAME#d", "verify --deep NAME", "convert NAME -o out.ova --for virtualbox --format raw"}},
	{name: "qcow2-data", what: "a qcow2 image whose data are in a host's file", make: withDisk("disk.qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html", qcow2Data), code: 3, says: "../outside", commands: disks, also: disksToo},
	{name: "cycle", what: "two disks each of which is a delta of the other", make: cycle, code: 1, says: "more than 64 disks below one another", commands: disks},
	{name: "digests-lie", what: "chunk digests of a file of 4 EiB", make: digestsThatLie, code: 3, says: "more chunks than there are digests", commands: disks[1:], also: append(makers[:len(makers):len(makers)], "nbd NAME --run true")},
	{name: "years", what: "a key that is derived by 2,000,000,000 iterations", make: sealed, code: 3, says: "an IterationCount of 1 to 10000000", commands: []string{"decrypt NAME -o out --password-file ../outside"}},
	{name: "long-names", what: "names of megabytes that ten thousand items refer to, in tables of as many lines", file: "a.ovf", make: longNames, code: 0, instead: "they stand where they are said, and are cut where others refer to them: what is printed stays about as long as the descriptor", commands: []string{"inspect NAME"}},
	{name: "many-values", what: "a descriptor of 33,000 devices, which is as much as is read, for a specification that takes all memory", file: "a.ovf", make: manyValues, code: 1, says: "there is too much in it for a specification", commands: []string{"spec NAME"}},
	{name: "ids", what: "IDs and names that would be paths, lines, options or terminal escapes", make: idsThatLead, code: 0, instead: "they are shown as text, and quoted where they are used", commands: []string{"inspect NAME", "run --dry-run NAME"}},
}

// TestBombsAreBombs sees that an attack is what it says, where that is easily got
// wrong: small itself, and large inside.
func TestBombsAreBombs(t *testing.T) {
	for name, make := range map[string]func(*testing.T, string) []byte{"zstd": zstdBomb, "grain": grainBomb} {
		if n := len(make(t, "")); n > 1<<20 {
			t.Errorf("%s: the bomb has %d bytes itself", name, n)
		}
	}
}
