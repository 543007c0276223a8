// Command kstatus reads one MetricsPipeline as JSON from standard input, and prints how tools judge it: the status of
// kstatus (Flux, kpt), and the health that the script in the file argument computes, run as Argo CD runs it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is what tools say.
type verdict struct {
	Kstatus string `json:"kstatus"`
	Argo    string `json:"argo"`
	Message string `json:"message"`
}

func main() {
	if err := run(os.Args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: kstatus HEALTH.LUA < METRICSPIPELINE.JSON")
	}
	script, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var object unstructured.Unstructured
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if err := object.UnmarshalJSON(text); err != nil {
		return err
	}
	judged, err := judge(&object, string(script))
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(judged)
}

func judge(object *unstructured.Unstructured, script string) (verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return verdict{}, err
	}
	health, message, err := argo(object, script)
	if err != nil {
		return verdict{}, err
	}
	return verdict{Kstatus: result.Status.String(), Argo: health, Message: message}, nil
}

// argo runs a health script as Argo CD does (util/lua/lua.go): the object is the global `obj`, only the base, table, string
// and math libraries are open, and the script returns a table with `status` and `message`.
func argo(object *unstructured.Unstructured, script string) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName:   lua.OpenPackage,
		lua.BaseLibName:   lua.OpenBase,
		lua.TabLibName:    lua.OpenTable,
		lua.StringLibName: lua.OpenString,
		lua.MathLibName:   lua.OpenMath,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned no table")
	}
	return table.RawGetString("status").String(), table.RawGetString("message").String(), nil
}

// value converts JSON to Lua.
func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(from)
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	default:
		return lua.LNil
	}
}
