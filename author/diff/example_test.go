package diff_test

import (
	"fmt"

	"github.com/ovation-project/ovation/author/diff"
	"github.com/ovation-project/ovation/ovf"
)

func ExampleDescriptors() {
	parse := func(name string) *ovf.Document {
		doc, err := ovf.Parse(fmt.Appendf(nil, `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<VirtualSystem ovf:id="web"><Info>A machine</Info><Name>%s</Name></VirtualSystem></Envelope>`, name), ovf.ParseOptions{})
		if err != nil {
			panic(err)
		}
		return doc
	}
	changes, err := diff.Descriptors(parse("Old"), parse("New"), diff.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range changes {
		fmt.Println(c.Kind, c.Path, c.Old, c.New)
	}
	// Output:
	// changed machine.name Old New
}
