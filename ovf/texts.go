package ovf

import (
	"fmt"
	"maps"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
)

// texts are messages by msgid, in the languages that were asked for, best
// first.
type texts []map[string]string

func (t texts) get(m Message) string {
	if m.MsgID != "" {
		for _, bundle := range t {
			if s, ok := bundle[m.MsgID]; ok {
				return s
			}
		}
	}
	return m.Text
}

// readTexts puts the bundles for the locale in order: the language with its
// region first, then the language.
func (r *resolver) readTexts() texts {
	want := strings.ToLower(strings.ReplaceAll(r.opt.Locale, "_", "-"))
	want, _, _ = strings.Cut(want, ".") // as in LANG: de_DE.UTF-8
	language, _, _ := strings.Cut(want, "-")
	var exact, near, fallback texts
	for _, b := range r.env.Bundles {
		lang := strings.ToLower(b.Lang)
		base, _, _ := strings.Cut(lang, "-")
		own := strings.EqualFold(b.Lang, r.env.Lang) || b.Lang == ""
		if base != language && !own {
			continue
		}
		m := r.bundle(b)
		switch {
		case want != "" && lang == want:
			exact = append(exact, m)
		case want != "" && base == language:
			near = append(near, m)
		case own:
			fallback = append(fallback, m)
		}
	}
	return append(append(exact, near...), fallback...)
}

// maxTextFiles bounds how many files a descriptor can have read for its texts.
const maxTextFiles = 256

// textFile gets a file that holds texts. A file is asked for once, however
// often it is named.
func (r *resolver) textFile(ref string) ([]byte, error) {
	f := r.files[ref]
	switch {
	case f == nil:
		return nil, fmt.Errorf("file %q is not among the References", ref)
	case r.opt.Bundle == nil:
		return nil, fmt.Errorf("file %q is not to be had", ref)
	}
	if got, ok := r.textFiles[f.Href]; ok {
		return got.data, got.err
	}
	if len(r.textFiles) == maxTextFiles {
		return nil, fmt.Errorf("it is in more than %d files", maxTextFiles)
	}
	var got textFile
	got.data, got.err = r.opt.Bundle(f.Href)
	r.textFiles[f.Href] = got
	return got.data, got.err
}

// textFile is what came of asking for a file.
type textFile struct {
	data []byte
	err  error
}

// bundle gives the messages of a Strings element: those in its file, over
// those the ones that stand in the descriptor, and each that has a file of its
// own (ovf:fileRef of Msg, 2.x) from there.
func (r *resolver) bundle(b *Bundle) map[string]string {
	messages, files := map[string]string{}, map[string]string{}
	if b.FileRef != "" {
		data, err := r.textFile(b.FileRef)
		if err == nil {
			var root *xmldoc.Element
			if root, err = bundleRoot(data); err == nil {
				messages, files = bundleMessages(root)
			}
		}
		if err != nil {
			r.note(b.Pos(), "the texts in %q cannot be read: %v", b.Lang, err)
		}
	}
	maps.Copy(messages, b.Messages)
	maps.Copy(files, b.Files)
	for _, id := range sortedKeys(files) {
		data, err := r.textFile(files[id])
		if err != nil {
			r.note(b.Pos(), "the text %q in %q cannot be read: %v", id, b.Lang, err)
			continue
		}
		messages[id] = plainText(data)
	}
	return messages
}

// plainText is a text file, such as a licence, without a byte order mark.
func plainText(data []byte) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.ToValidUTF8(string(data), "\ufffd"), "\ufeff"))
}

// ParseBundle reads a message bundle (DSP0243, clause 10): a Strings element
// with Msg elements, in a file of its own. Texts that the bundle leaves to
// further files are not among them.
func ParseBundle(data []byte) (map[string]string, error) {
	root, err := bundleRoot(data)
	if err != nil {
		return nil, err
	}
	messages, _ := bundleMessages(root)
	return messages, nil
}

func bundleRoot(data []byte) (*xmldoc.Element, error) {
	tree, err := xmldoc.Parse(data, xmldoc.Limits{})
	if err != nil {
		return nil, err
	}
	if tree.Root().Local != "Strings" {
		return nil, fmt.Errorf("a message bundle begins with <Strings>, not <%s>", tree.Root().Name())
	}
	return tree.Root(), nil
}

func bundleMessages(root *xmldoc.Element) (messages, files map[string]string) {
	return (&reader{root: root.Space}).messages(root)
}
