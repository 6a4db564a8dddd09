// Package ovf reads, resolves and edits OVF descriptors: the Open
// Virtualization Format of DMTF, DSP0243, in its versions 0.9 (VMware's
// draft), 1.0, 1.1, 2.0 and 2.1, as the standard has them and as they are
// found in the wild.
//
// A Document is the descriptor with all its bytes; Envelope is the typed view
// of it, which leaves nothing unreachable: sections that are not known here
// are kept as they are. Resolve works out what each virtual system is to be
// for one deployment option, the values of properties and a locale. Edits
// leave every byte outside the edited elements as it was.
//
// The package does no I/O and knows no package's files: a caller hands over
// bytes and, for message bundles, the means to get more of them.
package ovf

import (
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/internal/xmldoc"
)

// The namespaces of OVF's own elements and attributes.
const (
	NS09     = "http://www.vmware.com/schema/ovf/1/envelope"
	NS1      = "http://schemas.dmtf.org/ovf/envelope/1"
	NS2      = "http://schemas.dmtf.org/ovf/envelope/2"
	NSRASD   = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
	NSVSSD   = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
	NSSASD   = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData.xsd"
	NSEPASD  = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_EthernetPortAllocationSettingData.xsd"
	NSCommon = "http://schemas.dmtf.org/wbem/wscim/1/common"
	NSVMware = "http://www.vmware.com/schema/ovf"
	NSVBox   = "http://www.virtualbox.org/ovf/machine"
	// nsStrings is found around Strings elements of 0.9.
	nsStrings = "http://schemas.dmtf.org/ovf/strings/1"
	nsXSI     = "http://www.w3.org/2001/XMLSchema-instance"
	nsXML     = "http://www.w3.org/XML/1998/namespace"
)

// ErrNotOVF says that a well-formed XML document is not an OVF descriptor.
var ErrNotOVF = errors.New("not an OVF descriptor")

// DefaultMaxSize is the largest descriptor that Parse reads unless told
// otherwise, in bytes.
const DefaultMaxSize = xmldoc.DefaultSize

// ParseOptions bound what is read. Zero fields are defaults.
type ParseOptions struct {
	// MaxSize is in bytes.
	MaxSize int
	// MaxDepth is how far elements may nest.
	MaxDepth int
	// MaxNodes is how many elements and attributes there may be.
	MaxNodes int
}

// SyntaxError is where and why a descriptor is not well-formed XML.
type SyntaxError = xmldoc.SyntaxError

// LimitError says which of ParseOptions' limits a descriptor exceeds.
type LimitError = xmldoc.LimitError

// Document is a descriptor. It is never changed: an edit gives a new one.
type Document struct {
	tree *xmldoc.Document
	env  *Envelope
	opt  ParseOptions
}

// Parse reads a descriptor. It keeps data, which must not be changed after.
//
// The error is a *SyntaxError where the bytes are no well-formed XML, a
// *LimitError where they exceed a limit, and ErrNotOVF where the outermost
// element is not an OVF envelope. Whether the descriptor keeps the standard's
// rules is not asked here but in package lint.
func Parse(data []byte, opt ParseOptions) (*Document, error) {
	tree, err := xmldoc.Parse(data, xmldoc.Limits{Size: opt.MaxSize, Depth: opt.MaxDepth, Nodes: opt.MaxNodes})
	if err != nil {
		return nil, err
	}
	return newDocument(tree, opt)
}

func newDocument(tree *xmldoc.Document, opt ParseOptions) (*Document, error) {
	root := tree.Root()
	if root.Local != "Envelope" {
		return nil, fmt.Errorf("%w: the outermost element is <%s>, not an Envelope", ErrNotOVF, root.Name())
	}
	d := &Document{tree: tree, opt: opt}
	d.env = readEnvelope(root)
	return d, nil
}

// Bytes is the descriptor as it is stored. It must not be changed.
func (d *Document) Bytes() []byte { return d.tree.Bytes() }

// Envelope is the typed view.
func (d *Document) Envelope() *Envelope { return d.env }

// Encoding is the name of the encoding that the descriptor is stored in.
func (d *Document) Encoding() string { return d.tree.Encoding() }

// Tree is the XML below the typed view, for packages of this module.
func (d *Document) Tree() *xmldoc.Document { return d.tree }

// Pos is a place in the descriptor, counted from 1; columns are characters.
// The zero Pos is no place.
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// String gives line:column.
func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

// Node is the element of the descriptor that a typed value was read from.
type Node struct{ elem *xmldoc.Element }

// Pos is where the element begins.
func (n Node) Pos() Pos {
	if n.elem == nil {
		return Pos{}
	}
	line, col := n.elem.Position()
	return Pos{line, col}
}

// Element is the XML element, for packages of this module; nil for a value
// that was not read from a descriptor.
func (n Node) Element() *xmldoc.Element { return n.elem }

// XML is the element as it is written in the descriptor.
func (n Node) XML() string {
	if n.elem == nil {
		return ""
	}
	return n.elem.Document().Raw(n.elem.Outer())
}
