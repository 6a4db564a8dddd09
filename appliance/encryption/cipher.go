package encryption

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Cipher is how the bytes of a file are encrypted.
type Cipher struct {
	// Name is that of people and OpenSSL: aes256-gcm.
	Name string
	// URI is that of XML Encryption 1.1.
	URI string
	// KeySize is in bytes.
	KeySize int
	gcm     bool
}

// Ciphers are those that are read and written.
var ciphers = []Cipher{
	{"aes128-cbc", xenc + "aes128-cbc", 16, false},
	{"aes192-cbc", xenc + "aes192-cbc", 24, false},
	{"aes256-cbc", xenc + "aes256-cbc", 32, false},
	{"aes128-gcm", xenc11 + "aes128-gcm", 16, true},
	{"aes192-gcm", xenc11 + "aes192-gcm", 24, true},
	{"aes256-gcm", xenc11 + "aes256-gcm", 32, true},
}

// CipherByName finds a cipher by its name.
func CipherByName(name string) (Cipher, error) {
	for _, c := range ciphers {
		if c.Name == name {
			return c, nil
		}
	}
	return Cipher{}, fmt.Errorf("cipher %q: %w; aes128-, aes192- and aes256- with -cbc or -gcm are known", name, ErrUnsupported)
}

const (
	nonceSize = 12
	tagSize   = 16
	// maxGCM is the most that may be encrypted with one nonce (NIST SP
	// 800-38D, 5.2.1.1).
	maxGCM = 1<<36 - 32
	piece  = 64 << 10 // a multiple of the block
)

// Size is the number of bytes that n become.
func (c Cipher) Size(n int64) int64 {
	if c.gcm {
		return nonceSize + n + tagSize
	}
	return aes.BlockSize + (n/aes.BlockSize+1)*aes.BlockSize
}

// Authenticated says that a wrong byte is found when all have been decrypted.
func (c Cipher) Authenticated() bool { return c.gcm }

// Encrypt encrypts r to w under a fresh nonce, as XML Encryption 1.1 has it
// (5.2): the nonce or IV first, then the data, then padding (CBC) or the tag
// (GCM).
func (c Cipher) Encrypt(w io.Writer, r io.Reader, key []byte) error {
	block, err := c.block(key)
	if err != nil {
		return err
	}
	iv := make([]byte, aes.BlockSize)
	if c.gcm {
		iv = iv[:nonceSize]
	}
	if _, err := rand.Read(iv); err != nil {
		return err
	}
	if _, err := w.Write(iv); err != nil {
		return err
	}
	if c.gcm {
		g := newGCM(block, iv)
		return pump(r, func(b []byte, last bool) error {
			if err := g.more(len(b)); err != nil {
				return err
			}
			g.ctr.XORKeyStream(b, b)
			g.hash.write(b)
			if last {
				b = append(b, g.tag()...)
			}
			_, err := w.Write(b)
			return err
		})
	}
	mode := cipher.NewCBCEncrypter(block, iv)
	return pump(r, func(b []byte, last bool) error {
		if last {
			pad := aes.BlockSize - len(b)%aes.BlockSize
			for range pad {
				b = append(b, byte(pad))
			}
		}
		mode.CryptBlocks(b, b)
		_, err := w.Write(b)
		return err
	})
}

// Decrypt is the reverse. It gives ErrDecrypt where the key is not the file's
// or the bytes were altered. That is known at the end only, when w has been
// given the rest: who called must throw it away then. CBC tells neither for
// certain.
func (c Cipher) Decrypt(w io.Writer, r io.Reader, key []byte) error {
	block, err := c.block(key)
	if err != nil {
		return err
	}
	iv := make([]byte, aes.BlockSize)
	if c.gcm {
		iv = iv[:nonceSize]
	}
	if _, err := io.ReadFull(r, iv); err != nil {
		return short(err)
	}
	if c.gcm {
		return decryptGCM(w, r, newGCM(block, iv))
	}
	mode := cipher.NewCBCDecrypter(block, iv)
	// The last block tells how much of it counts, so one is kept back.
	held := make([]byte, 0, piece+2*aes.BlockSize)
	return pump(r, func(b []byte, last bool) error {
		held = append(held, b...)
		n := len(held) - aes.BlockSize
		if last {
			if len(held) == 0 || len(held)%aes.BlockSize != 0 {
				return fmt.Errorf("%w: it is no whole number of blocks", ErrDecrypt)
			}
			n = len(held)
		}
		if n = n &^ (aes.BlockSize - 1); n <= 0 {
			return nil
		}
		out := held[:n]
		mode.CryptBlocks(out, out)
		if last {
			pad := int(out[n-1])
			if pad < 1 || pad > aes.BlockSize {
				return fmt.Errorf("%w: the padding at the end is none", ErrDecrypt)
			}
			out = out[:n-pad]
		}
		_, err := w.Write(out)
		held = append(held[:0], held[n:]...)
		return err
	})
}

func decryptGCM(w io.Writer, r io.Reader, g *gcm) error {
	held := make([]byte, 0, piece+2*tagSize)
	return pump(r, func(b []byte, last bool) error {
		held = append(held, b...)
		n := len(held) - tagSize
		if n < 0 {
			if last {
				return short(io.ErrUnexpectedEOF)
			}
			return nil
		}
		if err := g.more(n); err != nil {
			return err
		}
		// All but the last piece are whole blocks, as GHASH wants them.
		if !last {
			n &^= aes.BlockSize - 1
			g.n -= int64((len(held) - tagSize) - n)
		}
		out := held[:n]
		g.hash.write(out)
		g.ctr.XORKeyStream(out, out)
		if last && subtle.ConstantTimeCompare(g.tag(), held[n:]) != 1 {
			return fmt.Errorf("%w: the tag at the end is not that of the data", ErrDecrypt)
		}
		_, err := w.Write(out)
		held = append(held[:0], held[n:]...)
		return err
	})
}

func (c Cipher) block(key []byte) (cipher.Block, error) {
	if len(key) != c.KeySize {
		return nil, fmt.Errorf("%w: the key has %d bytes, and %s needs %d", ErrDecrypt, len(key), c.Name, c.KeySize)
	}
	return aes.NewCipher(key)
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is too short", ErrDecrypt)
	}
	return err
}

// pump hands r on in pieces of one size; the last, which may be empty, is said
// to be so. f may append two blocks to what it is given.
func pump(r io.Reader, f func(b []byte, last bool) error) error {
	buf := make([]byte, piece, piece+2*aes.BlockSize)
	for {
		n, err := io.ReadFull(r, buf)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return err
		}
		if err := f(buf[:n], last); err != nil || last {
			return err
		}
	}
}

// gcm is GCM (NIST SP 800-38D) of data that does not fit in memory, which the
// standard library's is not.
type gcm struct {
	ctr  cipher.Stream
	hash ghash
	mask [tagSize]byte
	n    int64
}

func newGCM(block cipher.Block, nonce []byte) *gcm {
	g := &gcm{}
	var h, counter [16]byte
	block.Encrypt(h[:], h[:])
	g.hash.init(h)
	copy(counter[:], nonce)
	counter[15] = 1
	block.Encrypt(g.mask[:], counter[:])
	counter[15] = 2
	g.ctr = cipher.NewCTR(block, counter[:])
	return g
}

func (g *gcm) more(n int) error {
	if g.n += int64(n); g.n > maxGCM {
		return fmt.Errorf("%w: a file of more than 64 GiB, which GCM cannot take; use CBC", ErrUnsupported)
	}
	return nil
}

func (g *gcm) tag() []byte {
	var sizes [16]byte
	binary.BigEndian.PutUint64(sizes[8:], uint64(g.n)*8)
	g.hash.write(sizes[:])
	t := g.hash.sum()
	subtle.XORBytes(t, t, g.mask[:])
	return t
}

// ghash is GHASH with a table of 256 entries for each of 16 bytes' places.
type ghash struct {
	table  [16][256]element
	hi, lo uint64
}

// element is one of GF(2^128), the bits in GCM's order: the highest of hi is
// the coefficient of x^0.
type element struct{ hi, lo uint64 }

func (e element) timesX() element {
	out := element{e.hi >> 1, e.lo>>1 | e.hi<<63}
	if e.lo&1 != 0 {
		out.hi ^= 0xe1 << 56
	}
	return out
}

func (g *ghash) init(h [16]byte) {
	e := element{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])}
	for place := range g.table {
		for bit := 7; bit >= 0; bit-- {
			g.table[place][1<<bit] = e
			e = e.timesX()
		}
		for i := 1; i < 256; i++ {
			low := i & -i
			a, b := g.table[place][low], g.table[place][i^low]
			if i != low {
				g.table[place][i] = element{a.hi ^ b.hi, a.lo ^ b.lo}
			}
		}
	}
}

// write takes whole blocks; a last one that is not whole is filled with zeros.
func (g *ghash) write(b []byte) {
	for len(b) > 0 {
		if len(b) < 16 {
			b = append(append(make([]byte, 0, 16), b...), make([]byte, 16-len(b))...)
		}
		hi, lo := g.hi^binary.BigEndian.Uint64(b), g.lo^binary.BigEndian.Uint64(b[8:])
		var sum element
		for i := range 8 {
			a, c := &g.table[i][byte(hi>>(56-8*i))], &g.table[i+8][byte(lo>>(56-8*i))]
			sum.hi ^= a.hi ^ c.hi
			sum.lo ^= a.lo ^ c.lo
		}
		g.hi, g.lo, b = sum.hi, sum.lo, b[16:]
	}
}

func (g *ghash) sum() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, g.hi), g.lo)
}
