// Package appliance builds the virtual appliance that the end-to-end tests and
// the demo run: a Linux guest that looks at the machine it woke up in, reports
// it on the first serial port and powers off.
//
// It is put together without root and without installing anything into the
// guest: kernel, BusyBox and EFI stub come out of Debian's packages (see
// scripts/packages.txt), partitions and file systems are made on plain files,
// and everything is packed by other people's tools (qemu-img, sha256sum,
// openssl, tar), so that what Ovation reads in tests is not only what Ovation
// wrote.
//
// What was built is kept in the cache folder of the tree, by the content of
// all that it was made from.
package appliance

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Boot says which firmware a boot disk is for.
type Boot string

// The boot disks.
const (
	// BootBIOS has an MBR, a FAT file system and SYSLINUX.
	BootBIOS Boot = "bios"
	// BootEFI has a GPT and an EFI system partition with the kernel, its
	// command line and its initial file system in one EFI program.
	BootEFI Boot = "efi"
	// BootBoth has a GPT and both of the others' contents.
	BootBoth Boot = "both"
)

// Disk is a data disk: Size bytes of noise and holes that Seed determines.
type Disk struct {
	Size int64
	Seed int64
	// Controller is the Spec's name for a controller, "" for the Spec's own.
	Controller string
}

// NIC is a network card.
type NIC struct {
	// Model is what the descriptor's ResourceSubType says: E1000, VmxNet3, …
	Model string
	// MAC is written to the descriptor where it is not "".
	MAC string
}

// Property is one property of the descriptor's ProductSection.
type Property struct {
	Key, Value string
	Password   bool
}

// Spec says what appliance to build. The zero value of a field is a sensible
// default, the same in every build.
type Spec struct {
	// Name is the base name of the package and its files ("appliance").
	Name string
	// Boot is the boot disk's kind (BootBIOS).
	Boot Boot
	// Firmware is what the descriptor says, as vmw:Config: "bios", "efi",
	// "" to leave it unsaid.
	Firmware string
	// CPUs (1), CoresPerSocket (not said), MemoryMiB (256).
	CPUs, CoresPerSocket int
	MemoryMiB            int64
	// Controller is the boot disk's: one of Controllers ("ide").
	Controller string
	// Disks are the data disks.
	Disks []Disk
	NICs  []NIC
	// CDROM adds an empty CD-ROM drive.
	CDROM bool
	// Properties, where given, make the descriptor ask for the environment
	// on an ISO image.
	Properties []Property
	// EULA is a licence to be agreed to, "" for none.
	EULA string
	// Digest is the manifest's algorithm: SHA1, SHA256 (default), SHA384,
	// SHA512, "none" for no manifest.
	Digest string
	// Linger lets the guest stay up for so many seconds after its report,
	// with an HTTP server at port 80, a guest agent that answers then, and a
	// power button that works.
	Linger int
	// KernelLog sends the kernel's messages to the serial port too.
	KernelLog bool
}

func (s Spec) withDefaults() Spec {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&s.Name, "appliance")
	set((*string)(&s.Boot), string(BootBIOS))
	set(&s.Controller, "ide")
	set(&s.Digest, "SHA256")
	if s.CPUs == 0 {
		s.CPUs = 1
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = 256
	}
	for i := range s.Disks {
		set(&s.Disks[i].Controller, s.Controller)
	}
	return s
}

// Package is a built appliance.
type Package struct {
	// Dir holds the package's files, unpacked; OVA is the same as one file.
	// They are shared by all who build the same Spec: read them only.
	Dir, OVA string
	// Descriptor and Manifest are paths below Dir.
	Descriptor, Manifest string
	// Disks are the boot disk and the data disks.
	Disks []PackagedDisk
	Spec  Spec
}

// PackagedDisk is one disk of a built appliance.
type PackagedDisk struct {
	// File is the base name of the VMDK in the package, Raw the path of the
	// same disk as plain bytes.
	File, Raw string
	// Capacity is in bytes, SHA256 is of the whole disk as the guest sees
	// it, in hexadecimal.
	Capacity int64
	SHA256   string
}

//go:embed *.go guest descriptor.ovf.tmpl
var sources embed.FS

// Builder builds appliances into a cache.
type Builder struct {
	cache string
	// inputs is a digest of this package's sources and of Debian's packages.
	inputs string
	debs   map[string]string
}

// debs are the packages that the guest is made of.
var debs = []string{"linux-image-amd64", "busybox-static", "systemd-boot-efi"}

// ErrMissing says that something that the builder needs is not on this
// machine: scripts/install.sh installs it.
var ErrMissing = errors.New("needed to build the test appliance and not there; 'make install' installs it")

// New makes a builder that keeps what it builds in the tree's cache folder, or
// where OVATION_CACHE says. It fetches the guest's parts if they are not there
// yet.
func New(ctx context.Context) (*Builder, error) {
	_, cache, err := folders()
	if err != nil {
		return nil, err
	}
	if err := needTools(); err != nil {
		return nil, err
	}
	b := &Builder{cache: filepath.Join(cache, "appliance"), debs: map[string]string{}}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := b.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()

	sum := sha256.New()
	for _, name := range debs {
		if b.debs[name], err = Deb(ctx, name); err != nil {
			return nil, err
		}
		if err := hashInto(sum, b.debs[name]); err != nil {
			return nil, fmt.Errorf("package %s of Debian: %w: %w", name, ErrMissing, err)
		}
	}
	if err := hashSources(sum); err != nil {
		return nil, err
	}
	b.inputs = hex.EncodeToString(sum.Sum(nil))
	return b, nil
}

// Build gives the appliance that spec describes, from the cache where it was
// built before.
func (b *Builder) Build(ctx context.Context, spec Spec) (*Package, error) {
	spec = spec.withDefaults()
	key, err := b.key("package", spec)
	if err != nil {
		return nil, err
	}
	unlock, err := b.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()

	disks, err := b.disks(ctx, spec)
	if err != nil {
		return nil, err
	}
	dir, err := b.once(key, func(dir string) error { return pack(ctx, dir, spec, disks) })
	if err != nil {
		return nil, fmt.Errorf("test appliance %s: %w", spec.Name, err)
	}
	p := &Package{
		Dir: filepath.Join(dir, "files"), OVA: filepath.Join(dir, spec.Name+".ova"),
		Disks: disks, Spec: spec,
	}
	p.Descriptor = filepath.Join(p.Dir, spec.Name+".ovf")
	if spec.Digest != "none" {
		p.Manifest = filepath.Join(p.Dir, spec.Name+".mf")
	}
	return p, nil
}

// key names something in the cache by what it is made from.
func (b *Builder) key(what string, from any) (string, error) {
	text, err := json.Marshal(from)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(what+"\n"+b.inputs+"\n"), text...))
	return what + "-" + hex.EncodeToString(sum[:10]), nil
}

// once gives the folder of that key, made by make where it is not there yet.
// What make leaves half-made is removed.
func (b *Builder) once(key string, make func(dir string) error) (string, error) {
	final := filepath.Join(b.cache, key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	dir, err := os.MkdirTemp(b.cache, "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := make(dir); err != nil {
		return "", err
	}
	return final, os.Rename(dir, final)
}

// lock keeps other processes from building the same at the same time.
func (b *Builder) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// treeRoot finds the tree's root, upwards from the working directory: tests
// run in their package's folder, commands anywhere in the tree.
func treeRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "scripts", "packages.txt")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the test appliance is built inside of the source tree only")
		}
		dir = parent
	}
}

// folders are the tree's own and its cache.
func folders() (root, cache string, err error) {
	if root, err = treeRoot(); err != nil {
		return "", "", err
	}
	if cache = os.Getenv("OVATION_CACHE"); cache == "" {
		cache = filepath.Join(root, ".cache")
	}
	cache, err = filepath.Abs(cache)
	return root, cache, err
}

// Deb gives the path of one of Debian's packages that scripts/packages.txt lists
// as download, and fetches it where it is not there yet. Where that can't be
// done the error is an ErrMissing.
func Deb(ctx context.Context, name string) (string, error) {
	root, cache, err := folders()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "debs", name+".deb")
	if _, err := os.Stat(path); err != nil {
		if err := run(ctx, root, "sh", filepath.Join(root, "scripts", "install.sh"), "--downloads"); err != nil {
			return "", fmt.Errorf("package %s of Debian: %w: %w", name, ErrMissing, err)
		}
	}
	return path, nil
}

func needTools() error {
	for _, name := range []string{"dpkg-deb", "cpio", "sfdisk", "mformat", "mcopy", "syslinux", "objcopy", "qemu-img", "tar", "sha256sum", "openssl"} {
		if _, err := tool(name); err != nil {
			return fmt.Errorf("the program %s is %w", name, ErrMissing)
		}
	}
	return nil
}

// tool finds a program, also where only root looks by default.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// run runs a program in a folder; what it said is part of the error.
func run(ctx context.Context, dir, name string, args ...string) error {
	_, err := pipe(ctx, dir, nil, name, args...)
	return err
}

// pipe is run with an input and an output.
func pipe(ctx context.Context, dir string, stdin io.Reader, name string, args ...string) ([]byte, error) {
	path, err := tool(name)
	if err != nil {
		return nil, fmt.Errorf("the program %s is %w", name, ErrMissing)
	}
	var out, said strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, stdin, &out, &said
	// mtools refuses images whose size is no whole number of tracks of a
	// disk of the 1980s, and reads settings of the user.
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "MTOOLSRC=/dev/null", "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, said.String(), out.String())
	}
	return []byte(out.String()), nil
}

func hashInto(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// hashSources takes in all that this package builds with.
func hashSources(w io.Writer) error {
	for _, dir := range []string{".", "guest"} {
		entries, err := sources.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") || e.Name() == "report.go" {
				continue
			}
			name := e.Name()
			if dir != "." {
				name = dir + "/" + name
			}
			text, err := sources.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s %d\n", name, len(text))
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
	}
	return nil
}
