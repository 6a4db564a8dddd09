package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/kvm.h, where they are part of the kernel's stable interface.
const (
	kvmGetAPIVersion       = 0xae00
	kvmCreateVM            = 0xae01
	kvmGetVCPUMmapSize     = 0xae04
	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetTSSAddr          = 0xae47
	kvmRun                 = 0xae80

	kvmAPIVersion = 12
	kvmExitHLT    = 5
	exitReasonAt  = 8 // offset of exit_reason in struct kvm_run
)

type kvmMemoryRegion struct {
	slot, flags           uint32
	guestPhys, size, user uint64
}

// testProgram is a page that lies below 4 GiB, where a processor begins in real
// mode 16 bytes from the end. It enters protected mode, as every firmware does,
// and touches the floating-point unit: where the processor does not run the
// guest but the kernel plays each instruction, as some nested hosts do, UEFI
// and most systems end right there.
func testProgram(page []byte) {
	copy(page[0xff0:], []byte{0xe9, 0x0d, 0xf0}) // jmp 0xf000
	copy(page[0x00:], []byte{
		0x66, 0x2e, 0x0f, 0x01, 0x16, 0x40, 0xf0, // lgdt cs:[0xf040]
		0x0f, 0x20, 0xc0, // mov eax, cr0
		0x0c, 0x01, // or al, 1
		0x0f, 0x22, 0xc0, // mov cr0, eax
		0x66, 0xea, 0x20, 0xf0, 0xff, 0xff, 0x08, 0x00, // jmp 8:0xfffff020
	})
	copy(page[0x20:], []byte{
		0x9b,       // fwait
		0xdb, 0xe3, // fninit
		0xf4, // hlt
	})
	copy(page[0x40:], []byte{0x0f, 0x00, 0x50, 0xf0, 0xff, 0xff})             // two descriptors at 0xfffff050
	copy(page[0x58:], []byte{0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00}) // code, flat
}

// kvmWorks says why KVM can't be used, nil where it can: a processor is made
// and runs a few instructions. The device alone says little: containers and
// nested hosts have it and fail later.
func kvmWorks() error {
	done := make(chan error, 1)
	go func() { done <- tryKVM() }()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		return errors.New("KVM does not run its test program within 5 s")
	}
}

func tryKVM() error {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no /dev/kvm: virtualisation is off, or the module kvm is not loaded")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("no permission for /dev/kvm: add the user to the group kvm")
	case err != nil:
		return err
	}
	defer dev.Close()
	ioctl := func(fd int, request, arg uintptr, what string) (int, error) {
		for {
			r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
			if errno == syscall.EINTR {
				continue
			}
			if errno != 0 {
				return 0, fmt.Errorf("KVM is there and does not work: %s: %w", what, errno)
			}
			return int(r), nil
		}
	}
	fd := int(dev.Fd())
	if v, err := ioctl(fd, kvmGetAPIVersion, 0, "KVM_GET_API_VERSION"); err != nil {
		return err
	} else if v != kvmAPIVersion {
		return fmt.Errorf("KVM has interface version %d, not %d", v, kvmAPIVersion)
	}
	vm, err := ioctl(fd, kvmCreateVM, 0, "KVM_CREATE_VM")
	if err != nil {
		return err
	}
	defer unix.Close(vm)
	if runtime.GOARCH != "amd64" {
		return nil
	}
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("memory for the KVM test: %w", err)
	}
	defer unix.Munmap(page)
	testProgram(page)
	// Older Intel processors run real mode by means of three pages of the
	// guest's address space.
	if _, err := ioctl(vm, kvmSetTSSAddr, 0xfffbd000, "KVM_SET_TSS_ADDR"); err != nil {
		return err
	}
	region := kvmMemoryRegion{guestPhys: 0xfffff000, size: 4096, user: uint64(uintptr(unsafe.Pointer(&page[0])))}
	if _, err := ioctl(vm, kvmSetUserMemoryRegion, uintptr(unsafe.Pointer(&region)), "KVM_SET_USER_MEMORY_REGION"); err != nil {
		return err
	}
	runtime.KeepAlive(&region)
	cpu, err := ioctl(vm, kvmCreateVCPU, 0, "KVM_CREATE_VCPU")
	if err != nil {
		return err
	}
	defer unix.Close(cpu)
	size, err := ioctl(fd, kvmGetVCPUMmapSize, 0, "KVM_GET_VCPU_MMAP_SIZE")
	if err != nil {
		return err
	}
	run, err := unix.Mmap(cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("KVM is there and does not work: %w", err)
	}
	defer unix.Munmap(run)
	if _, err := ioctl(cpu, kvmRun, 0, "KVM_RUN"); err != nil {
		return err
	}
	if reason := *(*uint32)(unsafe.Pointer(&run[exitReasonAt])); reason != kvmExitHLT {
		return fmt.Errorf("KVM is there and does not work: the test program ended with reason %d", reason)
	}
	return nil
}
