// Package drivertest holds the tests that every hypervisor driver passes: what
// the contract in package hypervisor says, tried with guests of a few bytes.
package drivertest

import "fmt"

// Then is what a test guest does when it has said its message.
type Then int

// The ends of a test guest.
const (
	// PowerOff asks the BIOS to switch the machine off.
	PowerOff Then = iota
	// Restart resets the machine, which says its message again.
	Restart
	// Echo sends back what it gets on the serial port, and powers off at the
	// byte End, which it does not send back: what a guest says in its last
	// moment, some hosts lose.
	Echo
	// Hang stays where it is and hears no power button.
	Hang
	// Store is Echo, and before it sends a byte back it fills the sector at
	// StoreSector of its first disk with it.
	Store
)

// End is what an Echo or Store guest powers off at.
const End = 'q'

// StoreSector is where a Store guest writes, and packetAt where in its boot
// sector it has what the BIOS has to know of that.
const (
	StoreSector = 8
	packetAt    = 0x1e0
)

// bootSector and imageSize are the size of what a BIOS loads, and of the image
// it is on: some controllers want more than one sector.
const (
	bootSector = 512
	imageSize  = 1 << 20
)

// Image is a raw disk image that a BIOS boots: it writes message to the first
// serial port, and then does what it is to do.
func Image(message string, then Then) []byte {
	say := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0, 0, // mov si, message
		0xfc,       // cld
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x11, // jz then
		0x88, 0xc4, // mov ah, al
		0xba, 0xfd, 0x03, // mov dx, 0x3fd, the line status
		0xec,       // wait: in al, dx
		0xa8, 0x20, // test al, 0x20, room for a byte
		0x74, 0xfb, // jz wait
		0xb2, 0xf8, // mov dl, 0xf8
		0x88, 0xe0, // mov al, ah
		0xee,       // out dx, al
		0xeb, 0xea, // jmp next
	}
	off := []byte{
		0xb8, 0x07, 0x53, // mov ax, 0x5307, APM: set power state
		0xbb, 0x01, 0x00, // mov bx, 1, of all devices
		0xb9, 0x03, 0x00, // mov cx, 3, off
		0xcd, 0x15, // int 0x15
	}
	hang := []byte{
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to it
	}
	ends := map[Then][]byte{
		PowerOff: off,
		Restart: {
			0xb0, 0xfe, // mov al, 0xfe
			0xe6, 0x64, // out 0x64, al, the keyboard controller's reset
		},
		Echo: append([]byte{
			0xba, 0xfd, 0x03, // again: mov dx, 0x3fd
			0xec,       // wait: in al, dx
			0xa8, 0x01, // test al, 1, a byte is there
			0x74, 0xfb, // jz wait
			0xb2, 0xf8, // mov dl, 0xf8
			0xec,      // in al, dx
			0x3c, End, // cmp al, End
			0x74, 0x03, // je off
			0xee,       // out dx, al
			0xeb, 0xee, // jmp again
		}, off...),
		Hang: nil,
		Store: append([]byte{
			0x31, 0xc0, // xor ax, ax
			0x8e, 0xc0, // mov es, ax
			0xba, 0xfd, 0x03, // again: mov dx, 0x3fd
			0xec,       // wait: in al, dx
			0xa8, 0x01, // test al, 1, a byte is there
			0x74, 0xfb, // jz wait
			0xb2, 0xf8, // mov dl, 0xf8
			0xec,             // in al, dx
			0x50,             // push ax
			0xbf, 0x00, 0x80, // mov di, 0x8000
			0xb9, 0x00, 0x02, // mov cx, 512
			0xf3, 0xaa, // rep stosb
			0xbe, packetAt & 0xff, 0x7c + packetAt>>8, // mov si, packet
			0xb8, 0x00, 0x43, // mov ax, 0x4300, write sectors
			0xb2, 0x80, // mov dl, 0x80, of the first disk
			0xcd, 0x13, // int 0x13
			0x58,      // pop ax
			0x3c, End, // cmp al, End
			0x74, 0x06, // je off
			0xba, 0xf8, 0x03, // mov dx, 0x3f8
			0xee,       // out dx, al
			0xeb, 0xd7, // jmp again
		}, off...),
	}
	code := append(append(say, ends[then]...), hang...)
	at := 0x7c00 + len(code)
	code[5], code[6] = byte(at), byte(at>>8)
	code = append(append(code, message...), 0)
	if len(code) > packetAt {
		panic(fmt.Sprintf("drivertest: a message of %d bytes does not fit the boot sector", len(message)))
	}
	image := make([]byte, imageSize)
	copy(image, code)
	// The packet: its size, one sector, the buffer at 0:8000, the sector.
	copy(image[packetAt:], []byte{16, 0, 1, 0, 0x00, 0x80, 0, 0, StoreSector})
	image[bootSector-2], image[bootSector-1] = 0x55, 0xaa
	return image
}
