package lint

import (
	"fmt"
	"io"
)

//go:generate env UPDATE_DOCS=1 go test -count=1 -run ^TestDocs$ .

// WriteTable writes the table of all rules for the documentation, as Markdown.
func WriteTable(w io.Writer) error {
	if _, err := fmt.Fprint(w, "| rule | severity | what holds | clause |\n| --- | --- | --- | --- |\n"); err != nil {
		return err
	}
	for _, r := range rules {
		severity := string(r.Severity)
		if r.Lax {
			severity += ", in lax mode warning"
		}
		if _, err := fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", r.ID, severity, r.Title, r.Clause); err != nil {
			return err
		}
	}
	return nil
}
