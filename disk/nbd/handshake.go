package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// conn is one client.
type conn struct {
	*state
	raw net.Conn // as it was accepted: closing it ends all
	c   net.Conn // raw, or the TLS upon it
	r   *bufio.Reader

	secure     bool
	noZeroes   bool
	structured bool
	// contextOf is the export that base:allocation was chosen for.
	contextOf  *Export
	allocation bool

	sendMu  sync.Mutex
	sending sendingSince
}

func newConn(st *state, c net.Conn) *conn {
	return &conn{state: st, raw: c, c: c, r: bufio.NewReaderSize(c, 4096)}
}

// serve talks to the client until it leaves. It returns nil where the client
// took its leave.
func (c *conn) serve(ctx context.Context) error {
	limit := orDefault(c.HandshakeTimeout, defaultHandshake)
	if err := c.raw.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	e, err := c.handshake(ctx)
	if err != nil || e == nil {
		return err
	}
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.log.Debug("NBD client connected", "client", c.raw.RemoteAddr(), "export", e.Name)
	if err := c.transmit(ctx, e); err != nil {
		return err
	}
	// With TLS the end is said, so that it is not taken for one that
	// somebody on the way has made.
	_ = c.c.Close()
	return nil
}

// option is one option of a client.
type option struct {
	code uint32
	data []byte
}

// handshake lets the client choose an export; nil where it chose none.
func (c *conn) handshake(ctx context.Context) (*Export, error) {
	hello := be.AppendUint64(nil, helloMagic)
	hello = be.AppendUint64(hello, optionMagic)
	hello = be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := c.c.Write(hello); err != nil {
		return nil, err
	}
	var b [4]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // somebody looked whether we are here
		}
		return nil, err
	}
	flags := be.Uint32(b[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return nil, fmt.Errorf("unknown handshake flags %#x", flags)
	}
	if flags&flagFixedNewstyle == 0 {
		return nil, errors.New("the client does not speak fixed newstyle")
	}
	c.noZeroes = flags&flagNoZeroes != 0
	for range maxOptions {
		o, err := c.readOption()
		if err != nil {
			return nil, err
		}
		e, done, err := c.answer(ctx, o)
		if err != nil || done {
			return e, err
		}
	}
	return nil, fmt.Errorf("more than %d options", maxOptions)
}

var errHugeOption = errors.New("an option is too long")

// readOption reads one option. Of an option that is too long only the code is
// given, its data skipped; what is far too long is an error.
func (c *conn) readOption() (o option, err error) {
	var head [16]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return o, err
	}
	if be.Uint64(head[:]) != optionMagic {
		return o, errors.New("not an option")
	}
	o.code = be.Uint32(head[8:])
	n := be.Uint32(head[12:])
	if n > maxPayload {
		return o, errHugeOption
	}
	if n > maxOption {
		if err := c.skip(int64(n)); err != nil {
			return o, err
		}
		if o.code == optExportName {
			return o, errHugeOption
		}
		if err := c.reply(o.code, repErrTooBig, nil); err != nil {
			return o, err
		}
		return c.readOption()
	}
	o.data = make([]byte, n)
	_, err = io.ReadFull(c.r, o.data)
	return o, err
}

// skip reads what is of no use.
func (c *conn) skip(n int64) error {
	buf := c.pieces.Get().(*[pieceSize]byte)
	defer c.pieces.Put(buf)
	for n > 0 {
		got, err := io.ReadFull(c.r, buf[:min(n, pieceSize)])
		if n -= int64(got); err != nil {
			return err
		}
	}
	return nil
}

// answer does what an option asks. done is true where the handshake is over.
func (c *conn) answer(ctx context.Context, o option) (e *Export, done bool, err error) {
	if c.TLS != nil && !c.secure && o.code != optStartTLS && o.code != optAbort {
		if o.code == optExportName {
			return nil, true, errors.New("the client does not begin TLS")
		}
		return nil, false, c.refuse(o, repErrTLSReqd, "this server wants TLS")
	}
	switch o.code {
	case optExportName:
		if e = c.find(string(o.data)); e == nil {
			return nil, true, fmt.Errorf("no export %q", clip(o.data))
		}
		c.forget(e)
		b := be.AppendUint64(nil, uint64(e.Image.Size()))
		b = be.AppendUint16(b, e.flags(c.structured))
		if !c.noZeroes {
			b = append(b, make([]byte, 124)...)
		}
		_, err = c.c.Write(b)
		return e, true, err
	case optAbort:
		// The client may have gone already.
		_ = c.reply(o.code, repAck, nil)
		return nil, true, nil
	case optList:
		return nil, false, c.list(o)
	case optStartTLS:
		return nil, false, c.startTLS(ctx, o)
	case optInfo, optGo:
		return c.info(o)
	case optStructuredReply:
		if len(o.data) != 0 {
			return nil, false, c.refuse(o, repErrInvalid, "this option has no data")
		}
		c.structured = true
		return nil, false, c.reply(o.code, repAck, nil)
	case optListMeta, optSetMeta:
		return nil, false, c.meta(o)
	}
	return nil, false, c.reply(o.code, repErrUnsup, nil)
}

// list tells the exports.
func (c *conn) list(o option) error {
	if len(o.data) != 0 {
		return c.refuse(o, repErrInvalid, "this option has no data")
	}
	for _, e := range c.Exports {
		if err := c.reply(o.code, repServer, append(appendString(nil, e.Name), e.Description...)); err != nil {
			return err
		}
	}
	return c.reply(o.code, repAck, nil)
}

// startTLS begins TLS. All that was agreed upon before is forgotten: somebody
// else may have said it.
func (c *conn) startTLS(ctx context.Context, o option) error {
	switch {
	case len(o.data) != 0:
		return c.refuse(o, repErrInvalid, "this option has no data")
	case c.secure:
		return c.refuse(o, repErrInvalid, "TLS has begun already")
	case c.TLS == nil:
		return c.refuse(o, repErrPolicy, "this server has no TLS")
	}
	// Bytes that came in the clear must not be taken for what came by TLS.
	if c.r.Buffered() > 0 {
		return errors.New("the client does not wait for TLS to begin")
	}
	if err := c.reply(o.code, repAck, nil); err != nil {
		return err
	}
	t := tls.Server(c.raw, c.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.c, c.secure, c.structured = t, true, false
	c.contextOf, c.allocation = nil, false
	c.r.Reset(t)
	return nil
}

// info answers OPT_INFO and OPT_GO.
func (c *conn) info(o option) (e *Export, done bool, err error) {
	name, wanted, ok := parseInfo(o.data)
	if !ok {
		return nil, false, c.refuse(o, repErrInvalid, "malformed")
	}
	if e = c.find(name); e == nil {
		return nil, false, c.refuse(o, repErrUnknown, "no such export")
	}
	b := be.AppendUint16(nil, infoExport)
	b = be.AppendUint64(b, uint64(e.Image.Size()))
	infos := [][]byte{be.AppendUint16(b, e.flags(c.structured))}
	if slices.Contains(wanted, infoName) {
		infos = append(infos, append(be.AppendUint16(nil, infoName), e.Name...))
	}
	if slices.Contains(wanted, infoDescription) && e.Description != "" {
		infos = append(infos, append(be.AppendUint16(nil, infoDescription), e.Description...))
	}
	if slices.Contains(wanted, infoBlockSize) {
		b := be.AppendUint16(nil, infoBlockSize)
		b = be.AppendUint32(b, 1)
		b = be.AppendUint32(b, preferredBlock)
		infos = append(infos, be.AppendUint32(b, maxPayload))
	}
	for _, b := range infos {
		if err := c.reply(o.code, repInfo, b); err != nil {
			return nil, false, err
		}
	}
	if err := c.reply(o.code, repAck, nil); err != nil || o.code == optInfo {
		return nil, false, err
	}
	c.forget(e)
	return e, true, nil
}

// forget drops the context where it was chosen for another export.
func (c *conn) forget(e *Export) {
	if c.contextOf != e {
		c.allocation = false
	}
}

// meta answers OPT_LIST_META_CONTEXT and OPT_SET_META_CONTEXT. There is one
// context: base:allocation.
func (c *conn) meta(o option) error {
	if o.code == optSetMeta {
		c.contextOf, c.allocation = nil, false
	}
	if !c.structured {
		return c.refuse(o, repErrInvalid, "structured replies come first")
	}
	name, queries, ok := parseMeta(o.data)
	if !ok {
		return c.refuse(o, repErrInvalid, "malformed")
	}
	e := c.find(name)
	if e == nil {
		return c.refuse(o, repErrUnknown, "no such export")
	}
	found := slices.Contains(queries, allocationContext)
	id := uint32(0)
	if o.code == optListMeta {
		found = found || len(queries) == 0 || slices.Contains(queries, "base:")
	} else {
		c.contextOf, c.allocation = e, found
		id = allocationID
	}
	if found {
		if err := c.reply(o.code, repMetaContext, append(be.AppendUint32(nil, id), allocationContext...)); err != nil {
			return err
		}
	}
	return c.reply(o.code, repAck, nil)
}

// refuse answers an option with an error; text is for people.
func (c *conn) refuse(o option, kind uint32, text string) error {
	return c.reply(o.code, kind, []byte(text))
}

func (c *conn) reply(code, kind uint32, data []byte) error {
	b := be.AppendUint64(make([]byte, 0, 20+len(data)), optReplyMagic)
	b = be.AppendUint32(b, code)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(data)))
	_, err := c.c.Write(append(b, data...))
	return err
}

// clip makes a name from a stranger fit for a message.
func clip(b []byte) string {
	return strings.ToValidUTF8(string(b[:min(len(b), 80)]), "?")
}
