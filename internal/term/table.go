package term

import (
	"strings"

	"github.com/mattn/go-runewidth"
)

// Align says to which side a column leans.
type Align uint8

// The alignments.
const (
	Left Align = iota
	Right
)

// Column is one column of a table.
type Column struct {
	Title string
	Align Align
}

// Table is rows of text under titles. Cells are cleaned when they are printed,
// so they may come from a package.
type Table struct {
	Columns []Column
	// Indent is the number of spaces before each line.
	Indent int
	rows   [][]string
}

// NewTable makes a table with columns that lean left; a title that begins with
// ">" leans right.
func NewTable(titles ...string) *Table {
	t := &Table{}
	for _, s := range titles {
		c := Column{Title: s}
		if rest, ok := strings.CutPrefix(s, ">"); ok {
			c = Column{Title: rest, Align: Right}
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

// Row adds a row. Missing cells are empty.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.Columns))
	for i := range row {
		if i < len(cells) {
			row[i] = Clean(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

const (
	// minColumn is the width below which a column is not shrunk.
	minColumn = 8
	// maxColumn is the width beyond which cells stand out of their column
	// where nothing is cut: one long name must not make every line as long.
	maxColumn = 120
)

// Print writes the table. On a terminal the widest columns give way until a
// line fits, their cells ending in "…"; elsewhere nothing is cut. A table
// whose titles are all empty has no title line.
func (t *Table) Print(p *Printer) {
	widths := make([]int, len(t.Columns))
	titled := false
	for i, c := range t.Columns {
		widths[i] = runewidth.StringWidth(c.Title)
		titled = titled || c.Title != ""
	}
	for _, r := range t.rows {
		for i, cell := range r {
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	if p.width == 0 {
		for i, w := range widths {
			widths[i] = min(w, maxColumn)
		}
	} else {
		shrink(widths, p.width-t.Indent-2*(len(widths)-1))
	}
	if titled {
		titles := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			titles[i] = c.Title
		}
		p.Printf("%s\n", p.Styled(Dim, t.line(titles, widths, p.width > 0)))
	}
	for _, r := range t.rows {
		p.Printf("%s\n", t.line(r, widths, p.width > 0))
	}
}

func shrink(widths []int, room int) {
	for {
		sum, widest := 0, 0
		for i, w := range widths {
			sum += w
			if w > widths[widest] {
				widest = i
			}
		}
		if sum <= room || len(widths) == 0 || widths[widest] <= minColumn {
			return
		}
		widths[widest]--
	}
}

func (t *Table) line(cells []string, widths []int, cut bool) string {
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", t.Indent))
	for i, cell := range cells {
		if i > 0 {
			b.WriteString("  ")
		}
		if cut {
			cell = runewidth.Truncate(cell, widths[i], "…")
		}
		pad := strings.Repeat(" ", max(0, widths[i]-runewidth.StringWidth(cell)))
		if t.Columns[i].Align == Right {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
