"""The set-up page in a real Chromium: setup_page.py BASE TOKEN USER PASSWORD.

Walks through it as a person does, mistakes first, and prints one line for each thing that holds; ends with 1 at the first that does not.
"""
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

base, token, user, password = sys.argv[1:]
options = webdriver.ChromeOptions()
for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors",
                 "--disable-background-networking", "--no-first-run"):
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
driver = webdriver.Chrome(options=options)


def holds(what, condition):
    if not condition:
        print(f"NOT: {what}\n{driver.find_element(By.TAG_NAME, 'body').text}")
        driver.quit()
        sys.exit(1)
    print(what)


def fill(**fields):
    for name, text in fields.items():
        field = driver.find_element(By.ID, name)
        field.clear()
        field.send_keys(text)
    driver.find_element(By.ID, "send").click()


def shown(name):
    return driver.find_element(By.ID, name).text


def wait(condition):
    WebDriverWait(driver, 20).until(lambda _: condition())


driver.get(f"{base}/setup#token={token}")
holds("the token leaves the address bar", driver.current_url == f"{base}/setup")
holds("every field has a label", all(
    driver.find_elements(By.CSS_SELECTOR, f"label[for={name}]") for name in ("user", "password", "again")))

fill(user=user, password=password, again=password + "x")
holds("a typing mistake is said beside its field", "not the same" in shown("again-wrong"))
fill(user=user, password="password1234", again="password1234")
wait(lambda: shown("password-wrong"))
holds("a well-known password is refused in words", driver.switch_to.active_element.get_attribute("id") == "password")

fill(user=user, password=password, again=password)
wait(lambda: driver.find_element(By.ID, "done").is_displayed())
holds("the administrator is made", user in shown("name") and "sotp login" in shown("command"))

driver.get(f"{base}/setup#token={token}")
driver.refresh()
fill(user="somebody", password=password, again=password)
wait(lambda: shown("say") not in ("", "One moment …"))
holds("the link works once", "set up" in shown("say").lower())

# a refusal is an answer like 422, which the console lists; anything else is a fault of the page
faults = [line["message"] for line in driver.get_log("browser") if "status of 4" not in line["message"]]
holds(f"the console is empty {faults}", not faults)
driver.quit()
