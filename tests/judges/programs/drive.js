// What drive.py does, with an official JavaScript SDK. Usage: drive.js DIRECTORY, where DIRECTORY
// has the package. Methods and options come with the names of the Python SDK.

const readline = require('node:readline')
const vm = require('node:vm')

const sdk = require(process.argv[2])
const RECIPE = 'recipe.js'
const NAMES = { memory_mb: 'memoryMB', inherit_config: 'inheritConfig' }

const camel = (name) => NAMES[name] ?? name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
const snake = (name) => name.replace(/(MB|ID|[A-Z])/g, (part) => '_' + part.toLowerCase())

function renamed(value, rename) {
  if (Array.isArray(value)) return value.map((each) => renamed(each, rename))
  if (value === null || typeof value !== 'object' || value instanceof Date) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [rename(name), renamed(each, rename)])
  )
}

// Call each method of the recipe from a line of its own, as in somebody's file.
function made(recipe, context) {
  let template = sdk.Template({ fileContextPath: context })
  recipe.forEach(([method, given, options], number) => {
    const values = method === 'set_envs' ? given : [...given, ...positions(method, options)]
    const code = `(template, values) => template.${camel(method)}(...values)`
    const call = vm.runInThisContext(code, { filename: RECIPE, lineOffset: number })
    template = call(template, values)
  })
  return template
}

function positions(method, options) {
  if (Object.keys(options).length === 0) return []
  const given = renamed(options, camel)
  return method === 'from_image' ? [undefined, given] : [given]
}

async function perform({ call, recipe, context, arguments: given = [], options = {} }) {
  const logs = []
  const settings = renamed(options, camel)
  if (call.startsWith('build')) {
    settings.onBuildLogs = (entry) => logs.push([entry.level, entry.message])
  }
  try {
    if (recipe) {
      const result = await sdk.Template[camel(call)](made(recipe, context), ...given, settings)
      return { result, logs }
    }
    return { result: await ask(call, given, settings), logs }
  } catch (error) {
    const found = new RegExp(`${RECIPE}:(\\d+)`).exec(error.stack ?? '')
    const line = found ? Number(found[1]) - 1 : null
    return { error: error.constructor.name, message: error.message, line, logs }
  }
}

async function ask(call, given, settings) {
  switch (call) {
    case 'list': {
      const { templates, ...page } = await sdk.TemplateApi.listTemplates(settings)
      return { items: templates, ...page }
    }
    case 'delete':
      return sdk.TemplateApi.deleteTemplate(given[0], settings)
    case 'get_build_status':
      return sdk.Template.getBuildStatus({ templateId: given[0], buildId: given[1] }, settings)
    default:
      return (await sdk.Template[camel(call)](...given, settings)) ?? null
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const done = await perform(JSON.parse(line))
    const text = JSON.stringify({ ...done, result: renamed(done.result ?? null, snake) })
    process.stdout.write(text + '\n')
  }
}

main()
