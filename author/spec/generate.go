package spec

//go:generate env UPDATE_DOCS=1 go test -count=1 -run ^(TestSchemaFile|TestKeysFile)$ .
