package vmdk

import (
	"fmt"
	"strconv"
	"strings"
)

// descriptor is the text that describes a disk: in a file of its own or within
// a sparse file.
type descriptor struct {
	cid, parentCID string // eight hexadecimal digits, lower case
	createType     string
	parentHint     string
	extents        []extentLine
	ddb            map[string]string
}

// extentLine is one line such as RW 4192256 SPARSE "disk-s001.vmdk".
type extentLine struct {
	access  string
	sectors int64
	kind    string
	name    string
	offset  int64 // in sectors, of flat extents
}

const noParent = "ffffffff"

// parseDescriptor reads a descriptor. What it does not know it passes over.
func parseDescriptor(text string) (*descriptor, error) {
	d := &descriptor{parentCID: noParent, ddb: map[string]string{}}
	if i := strings.IndexByte(text, 0); i >= 0 {
		text = text[:i] // padding within a sparse file
	}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if isExtent(line) {
			if len(d.extents) == maxExtents {
				return nil, corrupt("the descriptor has more than %d extents", maxExtents)
			}
			e, err := parseExtent(line)
			if err != nil {
				return nil, corrupt("line %d of the descriptor: %v", n+1, err)
			}
			d.extents = append(d.extents, e)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(key) {
		case "cid":
			d.cid = cid(value)
		case "parentcid":
			d.parentCID = cid(value)
		case "createtype":
			d.createType = value
		case "parentfilenamehint":
			d.parentHint = value
		default:
			if strings.HasPrefix(key, "ddb.") {
				d.ddb[key] = value
			}
		}
	}
	return d, nil
}

// cid brings a content ID into one form.
func cid(s string) string {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		return s
	}
	return fmt.Sprintf("%08x", n)
}

func isExtent(line string) bool {
	access, _, _ := strings.Cut(line, " ")
	return access == "RW" || access == "RDONLY" || access == "NOACCESS"
}

func parseExtent(line string) (extentLine, error) {
	var e extentLine
	head, rest, quoted := strings.Cut(line, `"`)
	f := strings.Fields(head)
	if len(f) != 3 {
		return e, fmt.Errorf("%q is not an extent: ACCESS SECTORS TYPE \"FILE\" is expected", line)
	}
	e.access, e.kind = f[0], f[2]
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || n < 0 || n > maxCapacity {
		return e, fmt.Errorf("%q is not a number of sectors", f[1])
	}
	e.sectors = n
	if !quoted {
		return e, nil
	}
	var after string
	if e.name, after, quoted = strings.Cut(rest, `"`); !quoted {
		return e, fmt.Errorf("the file name in %q is not closed", line)
	}
	if after := strings.Fields(after); len(after) > 0 {
		if e.offset, err = strconv.ParseInt(after[0], 10, 64); err != nil || e.offset < 0 || e.offset > maxCapacity {
			return e, fmt.Errorf("%q is not an offset in sectors", after[0])
		}
	}
	return e, nil
}
