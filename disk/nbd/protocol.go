package nbd

import "encoding/binary"

// The numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice/nbd
// project). All integers on the wire are big-endian.
const (
	helloMagic      = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic     = 0x49484156454f5054 // "IHAVEOPT"
	optReplyMagic   = 0x0003e889045565a9
	requestMagic    = 0x25609513
	simpleMagic     = 0x67446698
	structuredMagic = 0x668e33ef

	// Handshake flags, of the server and of the client.
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMeta        = 9
	optSetMeta         = 10

	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4
	repErr         = 1 << 31
	repErrUnsup    = repErr | 1
	repErrPolicy   = repErr | 2
	repErrInvalid  = repErr | 3
	repErrTLSReqd  = repErr | 5
	repErrUnknown  = repErr | 6
	repErrTooBig   = repErr | 9

	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3

	// Transmission flags: what an export can do.
	canFlags       = 1 << 0
	isReadOnly     = 1 << 1
	canFlush       = 1 << 2
	canFUA         = 1 << 3
	canTrim        = 1 << 5
	canWriteZeroes = 1 << 6
	canDF          = 1 << 7
	canMultiConn   = 1 << 8
	canCache       = 1 << 10

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	// Command flags.
	cmdFUA    = 1 << 0
	cmdNoHole = 1 << 1
	cmdDF     = 1 << 2
	cmdReqOne = 1 << 3

	replyDone        = 1 << 0
	replyNone        = 0
	replyOffsetData  = 1
	replyOffsetHole  = 2
	replyBlockStatus = 5
	replyError       = 1<<15 | 1
	replyErrorOffset = 1<<15 | 2

	// States of the context base:allocation.
	stateHole = 1 << 0
	stateZero = 1 << 1

	errPerm     = 1
	errIO       = 5
	errInvalid  = 22
	errNoSpace  = 28
	errShutdown = 108
)

// What a client may ask for. The protocol bounds strings at 4096 bytes.
const (
	maxString = 4096
	// maxOption bounds the data of one option.
	maxOption = 64 << 10
	// maxOptions bounds the options that one client sends before it has
	// chosen an export.
	maxOptions = 1024
	// maxPayload is the most bytes that one READ or WRITE may carry: what
	// clients that do not ask for limits take for granted.
	maxPayload = 32 << 20
	// preferredBlock is what clients are told to align to: the usual grain
	// and cluster.
	preferredBlock = 64 << 10
	// pieceSize is how much is read from the image and sent at a time where
	// a reply may come in pieces.
	pieceSize = 1 << 20
	// minHole is the shortest hole that is worth a piece of its own.
	minHole = 4096
	// maxDescriptors bounds the extents in one reply of block status, and
	// maxWalk the extents of the image that are looked at for it: clients
	// ask again from where a reply ends.
	maxDescriptors = 4096
	maxWalk        = 1 << 15

	allocationContext = "base:allocation"
	allocationID      = 1
)

var be = binary.BigEndian

// request is one command of a client.
type request struct {
	flags, command uint16
	cookie, offset uint64
	length         uint32
}

// requestSize is the length of a request on the wire, its payload aside.
const requestSize = 28

// parseRequest reads a request; ok is false where it is none.
func parseRequest(b []byte) (r request, ok bool) {
	if len(b) != requestSize || be.Uint32(b) != requestMagic {
		return r, false
	}
	return request{
		flags: be.Uint16(b[4:]), command: be.Uint16(b[6:]),
		cookie: be.Uint64(b[8:]), offset: be.Uint64(b[16:]), length: be.Uint32(b[24:]),
	}, true
}

// check gives the error number that a request deserves before anything is done
// for it, 0 for none.
func (r request) check(size int64, writable, structured, allocation bool) uint32 {
	allowed := uint16(cmdFUA)
	beyond := uint32(errInvalid)
	switch r.command {
	case cmdRead:
		if structured {
			allowed |= cmdDF
		}
	case cmdWrite:
		beyond = errNoSpace
	case cmdWriteZeroes:
		allowed |= cmdNoHole
		beyond = errNoSpace
	case cmdBlockStatus:
		allowed |= cmdReqOne
		if !allocation || r.length == 0 {
			return errInvalid
		}
	case cmdTrim, cmdCache:
	case cmdFlush:
		if r.flags&^cmdFUA != 0 || r.offset != 0 || r.length != 0 {
			return errInvalid
		}
		return 0
	default:
		return errInvalid
	}
	switch {
	case r.flags&^allowed != 0:
		return errInvalid
	case !writable && (r.command == cmdWrite || r.command == cmdTrim || r.command == cmdWriteZeroes):
		return errPerm
	case (r.command == cmdRead || r.command == cmdWrite) && r.length > maxPayload:
		return errInvalid
	case r.offset > uint64(size) || uint64(r.length) > uint64(size)-r.offset:
		return beyond
	}
	return 0
}

// parseInfo reads the data of OPT_INFO and OPT_GO.
func parseInfo(b []byte) (name string, wanted []uint16, ok bool) {
	if name, b, ok = parseString(b); !ok || len(b) < 2 {
		return "", nil, false
	}
	n := int(be.Uint16(b))
	if b = b[2:]; len(b) != 2*n {
		return "", nil, false
	}
	for ; len(b) > 0; b = b[2:] {
		wanted = append(wanted, be.Uint16(b))
	}
	return name, wanted, true
}

// parseMeta reads the data of OPT_LIST_META_CONTEXT and OPT_SET_META_CONTEXT.
func parseMeta(b []byte) (name string, queries []string, ok bool) {
	if name, b, ok = parseString(b); !ok || len(b) < 4 {
		return "", nil, false
	}
	n := be.Uint32(b)
	b = b[4:]
	for ; n > 0; n-- {
		var q string
		if q, b, ok = parseString(b); !ok {
			return "", nil, false
		}
		queries = append(queries, q)
	}
	return name, queries, len(b) == 0
}

// parseString reads a string with its length before it.
func parseString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := be.Uint32(b)
	if b = b[4:]; n > maxString || uint64(n) > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// appendString appends a string with its length before it.
func appendString(b []byte, s string) []byte {
	return append(be.AppendUint32(b, uint32(len(s))), s...)
}
