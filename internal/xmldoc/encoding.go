package xmldoc

import (
	"bytes"
	"strings"
	"unicode/utf8"

	xenc "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// encoding is how a document is stored.
type encoding struct {
	name string
	bom  string        // the byte order mark as it is stored
	conv xenc.Encoding // nil for UTF-8
	// can says which characters can be stored as they are; others are
	// written as references.
	can func(rune) bool
}

const utf8BOM = "\xef\xbb\xbf"

func anyRune(rune) bool { return true }

func utf16As(name, bom string, e unicode.Endianness) encoding {
	return encoding{name: name, bom: bom, conv: unicode.UTF16(e, unicode.IgnoreBOM), can: anyRune}
}

// detect finds the encoding as XML 1.0 appendix F does: by the byte order
// mark or the first bytes, then by what the XML declaration says.
func detect(data []byte) (encoding, error) {
	fail := func(msg string) (encoding, error) {
		return encoding{}, &SyntaxError{Line: 1, Column: 1, Msg: msg}
	}
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(data, []byte("\x00\x00\xfe\xff")),
		bytes.HasPrefix(data, []byte("<\x00\x00\x00")), bytes.HasPrefix(data, []byte("\x00\x00\x00<")):
		return fail("UTF-32 is not read; store the document as UTF-8")
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return utf16As("UTF-16LE", "\xff\xfe", unicode.LittleEndian), nil
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return utf16As("UTF-16BE", "\xfe\xff", unicode.BigEndian), nil
	case bytes.HasPrefix(data, []byte("<\x00")):
		return utf16As("UTF-16LE", "", unicode.LittleEndian), nil
	case bytes.HasPrefix(data, []byte("\x00<")):
		return utf16As("UTF-16BE", "", unicode.BigEndian), nil
	}
	utf := encoding{name: "UTF-8", can: anyRune}
	if bytes.HasPrefix(data, []byte(utf8BOM)) {
		utf.bom = utf8BOM
	}
	name := declaredEncoding(string(data[len(utf.bom):min(len(data), 1024)]))
	switch strings.ToUpper(name) {
	case "", "UTF-8", "UTF8":
		return utf, nil
	}
	if utf.bom != "" {
		return fail("the document begins with the byte order mark of UTF-8 and says that it is " + name)
	}
	switch strings.ToUpper(name) {
	case "US-ASCII", "ASCII":
		return encoding{name: "US-ASCII", can: func(r rune) bool { return r < utf8.RuneSelf }}, nil
	case "ISO-8859-1", "ISO8859-1", "ISO_8859-1", "LATIN1", "LATIN-1":
		return encoding{name: "ISO-8859-1", conv: charmap.ISO8859_1, can: func(r rune) bool { return r < 0x100 }}, nil
	case "WINDOWS-1252", "CP1252":
		return encoding{name: "windows-1252", conv: charmap.Windows1252, can: func(r rune) bool {
			_, ok := charmap.Windows1252.EncodeRune(r)
			return ok
		}}, nil
	case "UTF-16", "UTF-16LE", "UTF-16BE":
		return fail("the document says that it is " + name + " and its bytes are not")
	}
	return fail("the encoding " + strings.ToValidUTF8(name, "?") + " is not read; store the document as UTF-8")
}

// declaredEncoding finds the encoding in an XML declaration. Whether that is
// well-formed is checked later.
func declaredEncoding(head string) string {
	if !strings.HasPrefix(head, "<?xml") {
		return ""
	}
	decl, _, _ := strings.Cut(head, "?>")
	_, after, ok := strings.Cut(decl, "encoding")
	if !ok {
		return ""
	}
	after = strings.TrimLeft(after, " \t\r\n=")
	if after == "" || after[0] != '"' && after[0] != '\'' {
		return ""
	}
	name, _, _ := strings.Cut(after[1:], after[:1])
	return name
}

// decode gives the text of a stored document, without byte order mark.
func decode(data []byte) (string, encoding, error) {
	enc, err := detect(data)
	if err != nil {
		return "", enc, err
	}
	body := data[len(enc.bom):]
	if enc.conv == nil {
		if enc.name == "US-ASCII" {
			for i, c := range body {
				if c >= utf8.RuneSelf {
					line, col := (&Document{text: string(body)}).Position(i)
					return "", enc, &SyntaxError{line, col, i, "a byte that is not US-ASCII, though the document says that it is"}
				}
			}
		}
		return string(body), enc, nil
	}
	text, err := enc.conv.NewDecoder().Bytes(body)
	if err != nil {
		return "", enc, &SyntaxError{Line: 1, Column: 1, Msg: "the document is not valid " + enc.name}
	}
	// What does not come back the same was not valid: a lone surrogate, an
	// odd byte at the end, a byte that stands for nothing.
	if back, err := enc.encode(string(text)); err != nil || !bytes.Equal(back, data) {
		at := 0
		for at < len(back) && at < len(data) && back[at] == data[at] {
			at++
		}
		return "", enc, &SyntaxError{Line: 1, Column: 1, Offset: at, Msg: "the document is not valid " + enc.name}
	}
	return string(text), enc, nil
}

// encode stores a text, with the byte order mark.
func (enc encoding) encode(text string) ([]byte, error) {
	if enc.conv == nil {
		return append([]byte(enc.bom), text...), nil
	}
	b, err := enc.conv.NewEncoder().String(text)
	return append([]byte(enc.bom), b...), err
}
