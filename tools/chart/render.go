// What `helm template` does, as far as this chart needs it: Debian 12 has no helm, but it has what
// helm is made of: Go's text/template, sprig and Kubernetes' own YAML.  manifests.py builds it, and
// prefers a helm that is there.
//
//	render template CHART RELEASE NAMESPACE [VALUES FILE]...
//	render values CHART [VALUES FILE]...
//
// The first prints the chart's manifests, each after a line "# Source: FILE", as helm does; the
// second the values that templates get, as JSON.  Not here: values.schema.json (manifests.py),
// subcharts, .Files and .Capabilities, and what would ask a cluster.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

func die(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, "render: "+format+"\n", arguments...)
	os.Exit(1)
}

func readYaml(file string) object {
	text, err := os.ReadFile(file)
	if err != nil {
		die("%v", err)
	}
	read := object{}
	if err := yaml.UnmarshalStrict(text, &read); err != nil {
		die("%s: %v", file, err)
	}
	return read
}

// Later values win; maps are merged key by key; a null takes a default away.
func merge(values, over object) object {
	for key, value := range over {
		below, wasMap := values[key].(object)
		if above, isMap := value.(object); wasMap && isMap {
			values[key] = merge(below, above)
		} else if value == nil {
			delete(values, key)
		} else {
			values[key] = value
		}
	}
	return values
}

func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env") // helm takes them away too: a chart does not depend on who renders it
	delete(all, "expandenv")
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["fromYaml"] = func(text string) object {
		read := object{}
		if err := yaml.Unmarshal([]byte(text), &read); err != nil {
			read["Error"] = err.Error()
		}
		return read
	}
	all["toJson"] = func(value interface{}) (string, error) {
		text, err := json.Marshal(value)
		return string(text), err
	}
	all["required"] = func(complaint string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", complaint)
		}
		return value, nil
	}
	all["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	return all
}

func mergedValues(folder string, files []string) object {
	values := readYaml(filepath.Join(folder, "values.yaml"))
	for _, file := range files {
		values = merge(values, readYaml(file))
	}
	return values
}

// The chart's templates under the names that helm gives them, and these names in order.
func load(folder, chart string) (*template.Template, []string) {
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	var names []string
	err := filepath.Walk(filepath.Join(folder, "templates"), func(file string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		name := path.Join(chart, filepath.ToSlash(relative))
		names = append(names, name)
		_, err = root.New(name).Parse(string(text))
		return err
	})
	if err != nil {
		die("%v", err)
	}
	sort.Strings(names)
	return root, names
}

func printTemplates(folder, release, namespace string, files []string) {
	chart := object{}
	for key, value := range readYaml(filepath.Join(folder, "Chart.yaml")) {
		chart[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := object{
		"Values": mergedValues(folder, files),
		"Chart":  chart,
		"Release": object{"Name": release, "Namespace": namespace, "Service": "Helm", "Revision": 1,
			"IsInstall": true, "IsUpgrade": false},
	}
	root, names := load(folder, fmt.Sprint(chart["Name"]))
	for _, name := range names {
		// NOTES.txt is printed too, though `helm template` does not: it has to render.
		if strings.HasSuffix(name, ".tpl") {
			continue
		}
		var out bytes.Buffer
		if err := root.ExecuteTemplate(&out, name, data); err != nil {
			die("%v", err)
		}
		// What a missing key prints as.
		text := strings.TrimSpace(strings.ReplaceAll(out.String(), "<no value>", ""))
		if text != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, text)
		}
	}
}

func main() {
	arguments := os.Args[1:]
	switch {
	case len(arguments) >= 4 && arguments[0] == "template":
		printTemplates(arguments[1], arguments[2], arguments[3], arguments[4:])
	case len(arguments) >= 2 && arguments[0] == "values":
		text, err := json.Marshal(mergedValues(arguments[1], arguments[2:]))
		if err != nil {
			die("%v", err)
		}
		fmt.Println(string(text))
	default:
		die("usage: render template CHART RELEASE NAMESPACE [FILE]... | render values CHART [FILE]...")
	}
}
