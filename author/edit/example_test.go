package edit_test

import (
	"fmt"

	"github.com/ovation-project/ovation/author/edit"
	"github.com/ovation-project/ovation/ovf"
)

func ExampleDescriptor() {
	doc, err := ovf.Parse([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References/> <!-- kept -->
  <VirtualSystem ovf:id="web"><Info>A machine</Info></VirtualSystem>
</Envelope>`), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := edit.New(doc)
	if err := d.SetName("web", "Web server"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", d.Document().Bytes())
	// Output:
	// <Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
	//   <References/> <!-- kept -->
	//   <VirtualSystem ovf:id="web"><Info>A machine</Info><Name>Web server</Name></VirtualSystem>
	// </Envelope>
}
